//! A request body → its *transactions*, by a decoder that shares nothing with what encodes them (`encoding/uap.rs`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

const MAX_TRANSACTIONS: usize = 250;

/// A request body of the wire format, taken apart.
///
/// # Errors
/// What is wrong with it, in words, without its content.
pub fn decode(body: &[u8]) -> Result<Vec<Transaction>, String> {
    let body: RequestBody = serde_json::from_slice(body)
        .map_err(|error| format!("{:?} error at byte {}", error.classify(), error.column()))?;
    if body.data.is_empty() || body.data.len() > MAX_TRANSACTIONS {
        return Err(format!(
            "{} transactions: 1 to {MAX_TRANSACTIONS} are allowed",
            body.data.len()
        ));
    }
    for (index, transaction) in body.data.iter().enumerate() {
        transaction
            .check()
            .map_err(|problem| format!("transaction {index}: {problem}"))?;
    }
    Ok(body.data)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestBody {
    data: Vec<Transaction>,
}

/// A transaction of the wire format.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(missing_docs)] // the names are those of docs/wire-format.md
pub struct Transaction {
    pub timestamp: String,
    pub version: String,
    pub transaction_id: String,
    pub request: RequestPart,
    pub response: ResponsePart,
    pub txn_meta_data: MetaData,
}

/// Its request.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(missing_docs)]
pub struct RequestPart {
    pub http_scheme: Option<String>,
    pub http_version: Option<String>,
    pub http_method: String,
    pub uri_query_fragment: String,
    pub host: Option<String>,
    pub connection: Connection,
    pub headers: Vec<String>,
    pub body: BodyPart,
}

/// Its connection.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(missing_docs)]
pub struct Connection {
    pub connection_ip: String,
    pub connection_port: Option<u16>,
    pub server_ip: String,
    pub server_port: u16,
}

/// A body, of which only the length is known.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct BodyPart {
    pub length: u64,
    pub data: String,
}

/// Its response.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(missing_docs)]
pub struct ResponsePart {
    pub status_code: Option<String>,
    pub headers: Vec<String>,
    pub body: BodyPart,
}

/// Where it comes from.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct MetaData {
    pub source_info: SourceInfo,
    pub filter_info: FilterInfo,
}

/// Which tap saw it where.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct SourceInfo {
    #[serde(rename = "type")]
    pub kind: String,
    pub version: String,
    pub pool_id: Option<String>,
    pub instance_id: Option<String>,
}

/// Which filter let it through.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct FilterInfo {
    pub filter_name: String,
}

impl Transaction {
    /// The value of a request header field, decoded.
    pub fn request_header(&self, name: &str) -> Option<Vec<u8>> {
        header(&self.request.headers, name)
    }

    /// The value of a response header field, decoded.
    pub fn response_header(&self, name: &str) -> Option<Vec<u8>> {
        header(&self.response.headers, name)
    }

    fn check(&self) -> Result<(), &'static str> {
        let seconds = self
            .timestamp
            .split_once('.')
            .is_some_and(|(whole, decimals)| {
                decimals.len() == 3
                    && decimals.parse::<u16>().is_ok()
                    && whole.parse::<i64>().is_ok()
            });
        let status = self.response.status_code.as_deref().unwrap_or("0");
        let headers = self.request.headers.iter().chain(&self.response.headers);
        let mut values = headers.map(|field| {
            field
                .split_once(':')
                .map(|(_, value)| STANDARD.decode(value))
        });
        match () {
            () if !seconds => Err("timestamp is not seconds with three decimals"),
            () if self.version != "1.0" => Err("version is not 1.0"),
            () if self.transaction_id.is_empty() => Err("transaction-id is empty"),
            () if self.request.http_method.is_empty() => Err("http-method is empty"),
            () if self.request.uri_query_fragment.is_empty() => Err("uri-query-fragment is empty"),
            () if !self
                .request
                .uri_query_fragment
                .bytes()
                .all(|b| b.is_ascii_graphic()) =>
            {
                Err("uri-query-fragment has bytes that are not visible ASCII")
            }
            () if self.request.connection.connection_ip.is_empty() => Err("connection-ip is empty"),
            () if !status.bytes().all(|b| b.is_ascii_digit()) => Err("status-code is not digits"),
            () if !values.all(|value| matches!(value, Some(Ok(_)))) => {
                Err("a header is not Name:base64")
            }
            () => Ok(()),
        }
    }
}

fn header(fields: &[String], name: &str) -> Option<Vec<u8>> {
    let (_, value) = fields
        .iter()
        .filter_map(|field| field.split_once(':'))
        .find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    STANDARD.decode(value).ok()
}
