//! *Decoder* of request bodies. The decoder shares no code with the encoder
//! (`encode/uap.rs`), so that it can check it. Field names are those of `docs/wire-format.md`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

const MAX_TRANSACTIONS: usize = 250;

/// Decodes and checks a request body of the wire format.
///
/// # Errors
/// A description of the first problem, without the body's content.
pub fn decode(body: &[u8]) -> Result<Vec<Transaction>, String> {
    let body: RequestBody = serde_json::from_slice(body).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => {
                "a member is missing, unknown or of the wrong type"
            }
            _ => "invalid JSON",
        };
        format!(
            "the body does not parse: {what} at line {}, column {}",
            error.line(),
            error.column()
        )
    })?;
    if body.data.is_empty() {
        let why = "the body contains 0 transactions, like the request of `edgetap check`";
        return Err(why.to_owned());
    }
    if body.data.len() > MAX_TRANSACTIONS {
        return Err(format!(
            "the body contains {} transactions; it must contain 1 to {MAX_TRANSACTIONS}",
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

/// One element of `data`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Transaction {
    pub timestamp: String,
    pub version: String,
    pub transaction_id: String,
    pub request: RequestPart,
    pub response: ResponsePart,
    pub txn_meta_data: MetaData,
}

/// `request` of a transaction.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
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

/// `request.connection`: the two ends of the viewer's connection.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Connection {
    pub connection_ip: String,
    pub connection_port: Option<u16>,
    pub server_ip: String,
    pub server_port: u16,
}

/// A message body. CloudFront logs only its length, so `data` is empty.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct BodyPart {
    pub length: u64,
    pub data: String,
}

/// `response` of a transaction.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ResponsePart {
    pub status_code: Option<String>,
    pub headers: Vec<String>,
    pub body: BodyPart,
}

/// The tap and the filter that a transaction passed.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct MetaData {
    pub source_info: SourceInfo,
    pub filter_info: FilterInfo,
}

/// The tap and the distribution that a transaction comes from.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct SourceInfo {
    #[serde(rename = "type")]
    pub kind: String,
    pub version: String,
    pub pool_id: Option<String>,
    pub instance_id: Option<String>,
}

/// `txn-meta-data.filter_info`: the filter that let the transaction pass.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct FilterInfo {
    pub filter_name: String,
}

impl Transaction {
    /// Returns the decoded value of a request header.
    pub fn request_header(&self, name: &str) -> Option<Vec<u8>> {
        header(&self.request.headers, name)
    }

    /// Returns the decoded value of a response header.
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
            () if !seconds => Err("timestamp must be seconds with three decimal places"),
            () if self.version != "1.0" => Err("version must be 1.0"),
            () if self.transaction_id.is_empty() => Err("transaction-id is empty"),
            () if self.request.http_method.is_empty() => Err("http-method is empty"),
            () if self.request.uri_query_fragment.is_empty() => Err("uri-query-fragment is empty"),
            () if !self
                .request
                .uri_query_fragment
                .bytes()
                .all(|b| b.is_ascii_graphic()) =>
            {
                Err("uri-query-fragment must consist of printable ASCII characters")
            }
            () if self.request.connection.connection_ip.is_empty() => Err("connection-ip is empty"),
            () if !status.bytes().all(|b| b.is_ascii_digit()) => {
                Err("status-code must consist of digits")
            }
            () if !values.all(|value| matches!(value, Some(Ok(_)))) => {
                Err("each header must be `Name:` followed by base64")
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
