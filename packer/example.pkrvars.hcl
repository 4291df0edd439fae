# packer build -var-file=example.pkrvars.hcl .
runner_version = "2.336.0"
runner_sha256  = "" # 64 digits: README.md, “The runner's checksum”
macos          = "sequoia"
disk_size_gb   = 80
