variable "runner_version" {
  type        = string
  description = "The actions runner's version, such as 2.336.0; GitHub stops serving one 30 days after its successor."
  validation {
    condition     = can(regex("^2\\.(329|3[3-9][0-9]|[4-9][0-9][0-9])\\.[0-9]+$", var.runner_version))
    error_message = "GitHub registers runners from 2.329.0 on: give a version such as 2.336.0."
  }
}

variable "runner_sha256" {
  type        = string
  description = "The SHA-256 of actions-runner-osx-arm64-VERSION.tar.gz, from the release's notes."
  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.runner_sha256))
    error_message = "The checksum is 64 hexadecimal digits: README.md says where GitHub shows it."
  }
}

variable "macos" {
  type        = string
  description = "The macOS of the base image: sonoma, sequoia or tahoe."
  default     = "sequoia"
  validation {
    condition     = contains(["sonoma", "sequoia", "tahoe"], var.macos)
    error_message = "Choose sonoma, sequoia or tahoe."
  }
}

variable "xcode" {
  type        = string
  description = "A tag of the Xcode image to build on, such as 16.4; empty: the base image, without Xcode."
  default     = ""
  validation {
    condition     = can(regex("^([0-9]+(\\.[0-9]+)*|latest)?$", var.xcode))
    error_message = "Give a version such as 16.4, latest, or nothing."
  }
}

variable "vm_base_name" {
  type        = string
  description = "Another base: a local VM whose name begins with local-, or an image, best by its @sha256 digest."
  default     = ""
  validation {
    condition     = can(regex("^(local-[a-z0-9-]+|[a-z0-9.:-]+/[A-Za-z0-9._/-]+(:[A-Za-z0-9._-]+|@sha256:[0-9a-f]{64}))?$", var.vm_base_name))
    error_message = "Name a local VM local-…, or an image such as ghcr.io/OWNER/NAME@sha256:…."
  }
}

variable "vm_name" {
  type        = string
  description = "The name of the VM to build; empty: a dated one. Never the name that a pool uses."
  default     = ""
  validation {
    condition     = can(regex("^([a-z0-9][a-z0-9-]{0,62})?$", var.vm_name))
    error_message = "Use a-z, 0-9 and dashes, at most 63 characters."
  }
}

variable "cpu_count" {
  type        = number
  description = "Virtual CPUs; macOS needs 4."
  default     = 4
  validation {
    condition     = var.cpu_count >= 4 && var.cpu_count <= 64 && floor(var.cpu_count) == var.cpu_count
    error_message = "A macOS guest needs at least 4 CPUs, in whole numbers."
  }
}

variable "memory_gb" {
  type        = number
  description = "Memory in GB, in whole numbers."
  default     = 6
  validation {
    condition     = var.memory_gb >= 4 && floor(var.memory_gb) == var.memory_gb
    error_message = "Give whole GB, 4 at least: fractions would be cut off."
  }
}

variable "disk_size_gb" {
  type        = number
  description = "Size of the disk in decimal GB; it can only grow (the base has 50, the Xcode image 140)."
  default     = 80
  validation {
    condition     = var.disk_size_gb > 50 && floor(var.disk_size_gb) == var.disk_size_gb
    error_message = "The base image's disk has 50 GB already, the Xcode image's 140: give more, in whole GB."
  }
}

variable "free_disk_gb" {
  type        = number
  description = "The build fails with less free disk than this in the guest."
  default     = 20
  validation {
    condition     = var.free_disk_gb >= 5
    error_message = "Jobs need some room: 5 GB at least."
  }
}

variable "formulae" {
  type        = list(string)
  description = "Homebrew formulae to install."
  default     = ["git-lfs", "gnu-tar", "zstd", "ninja", "pkgconf", "gnupg", "pipx"]
  validation {
    condition     = alltrue([for formula in var.formulae : can(regex("^[a-z0-9@+._/-]+$", formula))])
    error_message = "Name formulae as brew does."
  }
}

variable "keep_remote_login" {
  type        = bool
  description = "Leave SSH and Screen Sharing on, with the base's public password: for debugging an image only."
  default     = false
}
