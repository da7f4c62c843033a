# Overrides for moto, placed in a copy of terraform/. The endpoint and fake credentials come from
# AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.

provider "aws" {
  s3_use_path_style = true # moto listens on an IP address, which has no subdomains
}
