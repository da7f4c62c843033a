//! A fault-injecting TCP proxy on loopback: connections that break, stall or trickle, and a port
//! that closes.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// Below the range of ephemeral ports, so that no other program gets the port while it is closed.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// How the proxy forwards one chunk of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// At once.
    Smooth,
    /// This many bytes (modulo the chunk's length), then the connection breaks.
    Cut(usize),
    /// This many bytes (modulo the chunk's length), and the remaining ones after a pause.
    Stall(usize, Duration),
    /// This many bytes at a time, with a pause after each write.
    Drip(usize, Duration),
}

/// Decides how the next chunk is forwarded.
pub(crate) type Manners = Arc<dyn Fn() -> Manner + Send + Sync>;

struct State {
    to: SocketAddr,
    manners: Manners,
    connections: AtomicUsize,
    disturbances: AtomicUsize,
    /// Chunks of requests that are delayed.
    late: AtomicUsize,
    bearers: Mutex<BTreeSet<String>>,
}

pub(crate) struct FaultProxy {
    address: SocketAddr,
    state: Arc<State>,
    server: Mutex<Option<AbortHandle>>,
}

impl FaultProxy {
    /// Starts a proxy for the server at `to`.
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

    /// How often a response may have been lost.
    pub(crate) fn disturbances(&self) -> usize {
        self.state.disturbances.load(Ordering::Relaxed)
    }

    /// The number of open connections.
    pub(crate) fn open_connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// All bearer tokens that were forwarded.
    pub(crate) fn bearers(&self) -> BTreeSet<String> {
        self.state.bearers.lock().unwrap().clone()
    }

    /// Whether no delayed request can still arrive.
    pub(crate) fn is_quiet(&self) -> bool {
        self.state.late.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn is_open(&self) -> bool {
        self.server.lock().unwrap().is_some()
    }

    /// Breaks every connection and refuses new ones.
    pub(crate) fn close(&self) {
        if let Some(server) = self.server.lock().unwrap().take() {
            server.abort();
            self.state.disturbances.fetch_add(
                self.state.connections.load(Ordering::Relaxed),
                Ordering::Relaxed,
            );
        }
    }

    /// Accepts connections again.
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
            // Dropping this set with the task breaks all connections.
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

/// Increments a counter while it lives.
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
    // The end of one direction ends both, because HTTP does not use half-closed connections.
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
                // Fewer bytes than the chunk has: a request that is cut must not arrive.
                to.write_all(&bytes[..at % read]).await?;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Manner::Stall(at, time) => {
                let (first, remaining) = bytes.split_at(at % read);
                to.write_all(first).await?;
                tokio::time::sleep(time).await;
                to.write_all(remaining).await?;
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
    if let Some((_, after)) = text.split_once("uthorization: Bearer ") {
        let token = after.split("\r\n").next().unwrap_or_default();
        state.bearers.lock().unwrap().insert(token.to_owned());
    }
}
