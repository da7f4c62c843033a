//! A road: a TCP proxy on loopback that is as bad as a test wants. Resets, stalls, slow drips, and a port that is closed.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// Below the range from which the system gives ports to everybody else, so that a port that is closed stays ours.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// How bytes that arrive together go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Smooth,
    /// So many of them, then the connection breaks.
    Cut(usize),
    /// So many of them, and the others so much later.
    Stall(usize, Duration),
    /// So many at a time, with such a pause after each.
    Drip(usize, Duration),
}

/// Decides how bytes go on.
pub(crate) type Manners = Arc<dyn Fn() -> Manner + Send + Sync>;

struct State {
    to: SocketAddr,
    manners: Manners,
    connections: AtomicUsize,
    disturbances: AtomicUsize,
    /// Requests that are late.
    late: AtomicUsize,
    bearers: Mutex<BTreeSet<String>>,
}

pub(crate) struct FaultProxy {
    address: SocketAddr,
    state: Arc<State>,
    server: Mutex<Option<AbortHandle>>,
}

impl FaultProxy {
    /// A road to `to`.
    pub(crate) async fn start(
        to: SocketAddr,
        manners: impl Fn() -> Manner + Send + Sync + 'static,
    ) -> Self {
        let listener = loop {
            if let Ok(listener) =
                TcpListener::bind((Ipv4Addr::LOCALHOST, rand::random_range(PORTS))).await
            {
                break listener;
            }
        };
        let state = Arc::new(State {
            to,
            manners: Arc::new(manners),
            connections: AtomicUsize::new(0),
            disturbances: AtomicUsize::new(0),
            late: AtomicUsize::new(0),
            bearers: Mutex::default(),
        });
        let fault_proxy = Self {
            address: listener.local_addr().unwrap(),
            state,
            server: Mutex::default(),
        };
        fault_proxy.serve(listener);
        fault_proxy
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often an answer may have been lost on it.
    pub(crate) fn disturbances(&self) -> usize {
        self.state.disturbances.load(Ordering::Relaxed)
    }

    /// How many connections there are.
    pub(crate) fn open_connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Every bearer token that went along it.
    pub(crate) fn bearers(&self) -> BTreeSet<String> {
        self.state.bearers.lock().unwrap().clone()
    }

    /// Whether no request is late that may still arrive.
    pub(crate) fn is_quiet(&self) -> bool {
        self.state.late.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn is_open(&self) -> bool {
        self.server.lock().unwrap().is_some()
    }

    /// Breaks every connection, and refuses new ones.
    pub(crate) fn close(&self) {
        if let Some(server) = self.server.lock().unwrap().take() {
            server.abort();
            self.state.disturbances.fetch_add(
                self.state.connections.load(Ordering::Relaxed),
                Ordering::Relaxed,
            );
        }
    }

    /// Lets connections be made again.
    pub(crate) async fn open(&self) {
        while !self.is_open() {
            match TcpListener::bind(self.address).await {
                Ok(listener) => self.serve(listener),
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }

    fn serve(&self, listener: TcpListener) {
        let state = self.state.clone();
        let accept = async move {
            // Dropped with this task, it breaks all connections.
            let mut connections = JoinSet::new();
            loop {
                while connections.try_join_next().is_some() {}
                match listener.accept().await {
                    Ok((stream, _)) => _ = connections.spawn(connect(state.clone(), stream)),
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        *self.server.lock().unwrap() = Some(tokio::spawn(accept).abort_handle());
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.close();
    }
}

/// Counts for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connect(state: Arc<State>, near: TcpStream) {
    let _open = Counted::new(&state.connections);
    let Ok(far) = TcpStream::connect(state.to).await else {
        return;
    };
    let ((near_reads, near_writes), (far_reads, far_writes)) =
        (near.into_split(), far.into_split());
    // Whichever way ends first ends both: HTTP closes no connection by halves.
    tokio::select! {
        _ = carry(&state, near_reads, far_writes, true) => {}
        _ = carry(&state, far_reads, near_writes, false) => {}
    }
}

async fn carry(
    state: &State,
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    requests: bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let bytes = &buffer[..read];
        if requests {
            note_bearer(state, bytes);
        }
        let manner = (state.manners)();
        let mut _late = None;
        if manner != Manner::Smooth {
            state.disturbances.fetch_add(1, Ordering::Relaxed);
            _late = requests.then(|| Counted::new(&state.late));
        }
        match manner {
            Manner::Smooth => to.write_all(bytes).await?,
            Manner::Cut(at) => {
                // Never all of them: a request that is cut has not arrived.
                to.write_all(&bytes[..at % read]).await?;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Manner::Stall(at, time) => {
                let (first, rest) = bytes.split_at(at % read);
                to.write_all(first).await?;
                tokio::time::sleep(time).await;
                to.write_all(rest).await?;
            }
            Manner::Drip(step, pause) => {
                for drop in bytes.chunks(step.max(1)) {
                    to.write_all(drop).await?;
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

fn note_bearer(state: &State, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some((_, rest)) = text.split_once("uthorization: Bearer ") {
        let token = rest.split("\r\n").next().unwrap_or_default();
        state.bearers.lock().unwrap().insert(token.to_owned());
    }
}
