# Plans an example of terraform/examples. Uses no network.

mock_provider "aws" {
  source = "../../modules/edgetap/tests/mocks"
}

mock_provider "aws" {
  alias  = "us_east_1"
  source = "../../modules/edgetap/tests/mocks"
}

run "plan" {
  command = plan
}
