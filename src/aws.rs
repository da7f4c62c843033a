//! What every AWS client shares: region and credentials by the SDK's own rules, time limits, and TLS on ring.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, tls};

/// To connect may take so long; in a VPC without an endpoint for the service it never succeeds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer may keep us waiting so long.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Region, credentials and endpoints as the SDK finds them. Nothing is asked of the network unless that takes it.
pub async fn sdk_config() -> SdkConfig {
    let http = Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts)
        .load()
        .await
}
