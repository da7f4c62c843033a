//! The crate `cloudfront-logs`: `peer-cloudfront-logs LOG OUT` writes the transactions of a legacy log as JSON lines.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};

use anyhow::Context as _;
use cloudfront_logs::ValidatedRawLogline;
use flate2::bufread::MultiGzDecoder;
use percent_encoding::percent_decode_str;
use serde::Serialize;

/// As in src/filter.rs.
const EXTENSIONS: &str = "css,js,map,mjs,png,jpg,jpeg,gif,svg,svgz,webp,avif,bmp,ico,tif,tiff,woff,woff2,ttf,otf,eot,mp3,mp4,webm,ogg,ogv,avi,wav,\
                          mov,mkv,flac,flv,swf";

#[derive(Serialize)]
struct Transaction<'a> {
    id: &'a str,
    date: &'a str,
    time: &'a str,
    took: &'a str,
    ip: &'a str,
    port: &'a str,
    method: &'a str,
    scheme: &'a str,
    version: &'a str,
    host: &'a str,
    target: Cow<'a, str>,
    referer: Cow<'a, str>,
    agent: Cow<'a, str>,
    forwarded: &'a str,
    status: &'a str,
    r#type: Cow<'a, str>,
    length: &'a str,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (log, out) = (arguments.next().context("LOG")?, arguments.next().context("OUT")?);
    let log = BufReader::with_capacity(64 << 10, File::open(log)?);
    let mut log = BufReader::with_capacity(64 << 10, MultiGzDecoder::new(log));
    let mut out = BufWriter::with_capacity(64 << 10, File::options().write(true).create(true).truncate(true).open(out)?);
    let extensions: Vec<&str> = EXTENSIONS.split(',').collect();
    let mut line = String::new();
    while log.read_line(&mut line)? > 0 {
        let text = line.trim_end_matches('\n');
        if !text.starts_with('#') {
            let row = ValidatedRawLogline::try_from(text).map_err(anyhow::Error::msg)?;
            if !is_static(&row, &extensions) {
                serde_json::to_writer(&mut out, &transaction(&row))?;
                out.write_all(b"\n")?;
            }
        }
        line.clear();
    }
    Ok(out.flush()?)
}

fn is_static(row: &ValidatedRawLogline<'_>, extensions: &[&str]) -> bool {
    let extension = row.cs_uri_stem.rsplit_once('.').map(|(_, extension)| extension);
    matches!(row.cs_method, "GET" | "HEAD")
        && extension.is_some_and(|extension| extensions.iter().any(|listed| listed.eq_ignore_ascii_case(extension)))
}

fn transaction<'a>(row: &ValidatedRawLogline<'a>) -> Transaction<'a> {
    let decoded = |text: &'a str| percent_decode_str(text).decode_utf8_lossy();
    let target = match row.cs_uri_query {
        "-" => decoded(row.cs_uri_stem),
        query => Cow::Owned(format!("{}?{query}", row.cs_uri_stem).replace("%25", "%")),
    };
    Transaction {
        id: row.x_edge_request_id,
        date: row.date,
        time: row.time,
        took: row.time_taken,
        ip: row.c_ip,
        port: row.c_port,
        method: row.cs_method,
        scheme: row.cs_protocol,
        version: row.cs_protocol_version,
        host: row.x_host_header,
        target,
        referer: decoded(row.cs_referer),
        agent: decoded(row.cs_user_agent),
        forwarded: row.x_forwarded_for,
        status: row.sc_status,
        r#type: decoded(row.sc_content_type),
        length: row.sc_content_len,
    }
}
