# The image that CiderMill's runners are cloned from: a public Cirrus macOS base, with the actions runner baked in at a
# pinned version, what workflows written for GitHub's own images expect, and the doors closed. README.md says how.

packer {
  required_version = ">= 1.10.0"
  required_plugins {
    tart = {
      source  = "github.com/cirruslabs/tart"
      version = ">= 1.21.0"
    }
  }
}

locals {
  base = coalesce(var.vm_base_name, "ghcr.io/cirruslabs/macos-${var.macos}-${var.xcode == "" ? "base:latest" : "xcode:${var.xcode}"}")
  # A failed build deletes the VM of this name, and a build replaces one: a dated name is never the one in use.
  name = coalesce(var.vm_name, "cidermill-${var.macos}-${formatdate("YYYYMMDD-hhmm", timestamp())}")
}

source "tart-cli" "macos" {
  vm_name      = local.name
  vm_base_name = local.base
  always_pull  = !startswith(local.base, "local-")
  headless     = true
  disable_vnc  = true
  cpu_count    = var.cpu_count
  memory_gb    = var.memory_gb
  disk_size_gb = var.disk_size_gb
  ssh_username = "admin"
  ssh_password = "admin" # the public base's own, known to everybody; remote login is closed from the next boot on
  ssh_timeout  = "180s"
}

build {
  sources = ["source.tart-cli.macos"]

  provisioner "shell" {
    script           = "${path.root}/scripts/system.sh"
    environment_vars = ["KEEP_REMOTE_LOGIN=${var.keep_remote_login}"]
  }

  provisioner "shell" {
    script           = "${path.root}/scripts/tools.sh"
    environment_vars = ["FORMULAE=${join(" ", var.formulae)}"]
  }

  provisioner "shell" {
    script = "${path.root}/scripts/agent.sh"
  }

  provisioner "shell" {
    script = "${path.root}/scripts/runner.sh"
    environment_vars = [
      "RUNNER_VERSION=${var.runner_version}",
      "RUNNER_SHA256=${var.runner_sha256}",
      "BASE=${local.base}",
      "IMAGE_OS=${lookup({ sonoma = "macos14", sequoia = "macos15", tahoe = "macos26" }, var.macos, var.macos)}",
    ]
  }

  provisioner "shell" {
    script = "${path.root}/scripts/verify.sh"
    environment_vars = [
      "RUNNER_VERSION=${var.runner_version}",
      "FREE_DISK_GB=${var.free_disk_gb}",
    ]
  }
}
