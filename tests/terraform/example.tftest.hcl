# Plans an example of terraform/examples. run.sh puts the example's region in place of REGION. Uses no
# network.

mock_provider "aws" {
  source = "../../modules/edgetap/tests/mocks"

  mock_data "aws_region" {
    defaults = { id = "REGION" }
  }
}

mock_provider "aws" {
  alias  = "us_east_1"
  source = "../../modules/edgetap/tests/mocks"
}

run "plan" {
  command = plan
}
