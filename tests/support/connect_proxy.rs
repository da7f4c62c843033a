//! An HTTP proxy on loopback that only tunnels (CONNECT), and that alone can resolve certain names.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// What one CONNECT asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tunnel {
    /// Host and port.
    pub to: String,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<String>,
}

pub(crate) struct ConnectProxy {
    address: SocketAddr,
    tunnels: Arc<Mutex<Vec<Tunnel>>>,
    server: AbortHandle,
}

impl ConnectProxy {
    /// Starts a proxy that resolves these names, to the loopback address.
    pub(crate) async fn start(names: &[&'static str]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tunnels = Arc::<Mutex<Vec<Tunnel>>>::default();
        let (names, log) = (names.to_vec(), tunnels.clone());
        let accept = async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(tunnel(client, names.clone(), log.clone()));
            }
        };
        Self {
            address,
            tunnels,
            server: tokio::spawn(accept).abort_handle(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// All tunnels that were asked for, in order.
    pub(crate) fn tunnels(&self) -> Vec<Tunnel> {
        self.tunnels.lock().unwrap().clone()
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn tunnel(
    mut client: TcpStream,
    names: Vec<&'static str>,
    log: Arc<Mutex<Vec<Tunnel>>>,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let to = head
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.split(' ').next())
        .unwrap_or_default();
    let authorization = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let is_it = name.eq_ignore_ascii_case("proxy-authorization");
        is_it.then(|| value.to_owned())
    });
    log.lock().unwrap().push(Tunnel {
        to: to.to_owned(),
        authorization,
    });
    let known = to
        .split_once(':')
        .filter(|(name, _)| names.contains(name))
        .and_then(|(_, port)| port.parse::<u16>().ok());
    let Some(port) = known else {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
    };
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
