//! A TCP proxy between one Envoy and the billing service, which fails on command: cut one way or both, slow, or resetting.
//!
//! What is cut is held, not thrown away, as a network does that loses packets for a while: the sender's kernel sends them
//! again, and they come late. So what arrives after a cut is what a gateway may long have given up.

use crate::{During as _, Result};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

/// Bytes that are read at a time.
const PIECE: usize = 16 * 1024;
/// Pieces on the way; beyond them the sender has to wait, as behind a full window.
const PIECES_MAX: usize = 256;

/// How bytes go one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// As they come.
    #[default]
    Open,
    /// Each so much later.
    Late(Duration),
    /// Not at all, until it is mended.
    Cut,
}

/// What is the matter with a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Road {
    /// From the gateway to billing.
    pub to: Way,
    /// From billing to the gateway.
    pub from: Way,
    /// Every connection ends in a reset at once, those that were open too.
    pub resets: bool,
}

impl Road {
    /// Nothing is.
    pub const OPEN: Self = Self { to: Way::Open, from: Way::Open, resets: false };
    /// Billing hears nothing of this gateway.
    pub const CUT_TO: Self = Self { to: Way::Cut, ..Self::OPEN };
    /// The gateway hears nothing of billing, which hears it.
    pub const CUT_FROM: Self = Self { from: Way::Cut, ..Self::OPEN };
    /// A black hole: connections are made, and nothing comes of them.
    pub const CUT: Self = Self { to: Way::Cut, from: Way::Cut, resets: false };
    /// Whoever connects is reset.
    pub const RESETS: Self = Self { resets: true, ..Self::OPEN };

    /// Slow both ways.
    #[must_use]
    pub const fn late(by: Duration) -> Self {
        Self { to: Way::Late(by), from: Way::Late(by), resets: false }
    }
}

/// A running proxy on a thread of its own; dropping it ends it.
pub struct Link {
    port: u16,
    road: watch::Sender<Road>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Link {
    /// Starts one to a port on loopback, on a port that the system chooses.
    ///
    /// # Errors
    /// There is no port to be had.
    pub fn start(to: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).during("listen on a free port")?;
        listener.set_nonblocking(true).during("listen without blocking")?;
        let port = listener.local_addr().during("ask for the port")?.port();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().during("start a runtime")?;
        let (road, seen) = watch::channel(Road::OPEN);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, to, seen) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { port, road, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// From now on it is like this. What was held goes on as soon as its way is open.
    pub fn set(&self, road: Road) {
        self.road.send_replace(road);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, to: u16, road: watch::Receiver<Road>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        match listener.accept().await {
            Ok((near, _)) => {
                tokio::spawn(carry(near, to, road.clone()));
            }
            // No file to be had, as a rule; others close theirs.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// One connection. If there is nobody at the other end, the near one is reset, as by a machine on which nobody listens.
async fn carry(mut near: TcpStream, to: u16, mut road: watch::Receiver<Road>) {
    _ = near.set_nodelay(true);
    let far = if road.borrow().resets { None } else { TcpStream::connect(("127.0.0.1", to)).await.ok() };
    let Some(mut far) = far else {
        _ = near.set_zero_linger();
        return;
    };
    _ = far.set_nodelay(true);
    let (resets, there, back) = (road.clone(), road.clone(), road.clone());
    let whole = {
        let ((near_in, near_out), (far_in, far_out)) = (near.split(), far.split());
        tokio::select! {
            _ = reset(resets) => false,
            both = async {
                tokio::try_join!(
                    pass(near_in, far_out, there, |road| road.to),
                    pass(far_in, near_out, back, |road| road.from),
                )
            } => both.is_ok(),
        }
    };
    if !whole {
        // Nobody hears of a connection's end through a cut either.
        _ = road.wait_for(|road| road.to != Way::Cut && road.from != Way::Cut).await;
        _ = near.set_zero_linger();
        _ = far.set_zero_linger();
    }
}

async fn reset(mut road: watch::Receiver<Road>) {
    if road.wait_for(|road| road.resets).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// One way of a connection, until its sender has said all.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut road: watch::Receiver<Road>,
    way: fn(&Road) -> Way,
) -> io::Result<()> {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let read = async {
        let mut buffer = vec![0; PIECE];
        loop {
            let count = from.read(&mut buffer).await?;
            let piece = buffer.get(..count).unwrap_or_default().to_vec();
            if sender.send((Instant::now(), piece)).await.is_err() || count == 0 {
                return Ok::<(), io::Error>(());
            }
        }
    };
    let write = async {
        while let Some((read_at, piece)) = pieces.recv().await {
            let open = road.wait_for(|road| way(road) != Way::Cut).await.map(|road| way(&road));
            if let Ok(Way::Late(by)) = open {
                tokio::time::sleep(by.saturating_sub(read_at.elapsed())).await;
            }
            if piece.is_empty() {
                return to.shutdown().await;
            }
            to.write_all(&piece).await?;
        }
        Ok(())
    };
    tokio::try_join!(read, write).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    /// Whoever says something hears it again.
    fn echo() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let (mut from, mut to) = (socket.try_clone().unwrap(), socket);
                    // Whoever is reset is gone; that is what some of this is about.
                    _ = std::io::copy(&mut from, &mut to);
                    _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        });
        port
    }

    fn connect(link: &Link) -> std::net::TcpStream {
        let socket = std::net::TcpStream::connect(("127.0.0.1", link.port())).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    }

    /// What comes, on however slow a machine.
    fn heard(socket: &mut std::net::TcpStream) -> io::Result<Vec<u8>> {
        let mut buffer = [0; 64];
        let count = socket.read(&mut buffer)?;
        Ok(buffer[..count].to_vec())
    }

    /// Nothing comes within 150 ms.
    fn is_silent(socket: &mut std::net::TcpStream) -> bool {
        socket.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
        let silent = heard(socket).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        silent
    }

    #[test]
    fn what_is_cut_comes_late_and_whole_and_in_order() {
        let link = Link::start(echo()).unwrap();
        for road in [Road::CUT_TO, Road::CUT_FROM, Road::CUT] {
            let mut socket = connect(&link);
            socket.write_all(b"1").unwrap();
            assert_eq!(heard(&mut socket).unwrap(), b"1");
            link.set(road);
            socket.write_all(b"2").unwrap();
            assert!(is_silent(&mut socket), "{road:?}");
            socket.write_all(b"3").unwrap();
            // And so does who comes meanwhile.
            let mut late = connect(&link);
            late.write_all(b"4").unwrap();
            assert!(is_silent(&mut late), "{road:?}");
            link.set(Road::OPEN);
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            let mut rest = String::new();
            socket.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "23", "{road:?}");
            late.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            assert_eq!(heard(&mut late).unwrap(), b"4");
        }
    }

    #[test]
    fn a_slow_link_is_slow_both_ways_and_carries_what_is_under_way_together() {
        let link = Link::start(echo()).unwrap();
        link.set(Road::late(Duration::from_millis(100)));
        let mut socket = connect(&link);
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let began = Instant::now();
        for _ in 0..30 {
            socket.write_all(b"x").unwrap();
            std::thread::sleep(Duration::from_millis(3));
        }
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut all = String::new();
        socket.read_to_string(&mut all).unwrap();
        assert_eq!(all.len(), 30);
        assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
        // One after the other they would take thirty times as long.
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }

    #[test]
    fn a_reset_ends_what_is_open_and_whoever_comes_until_it_is_mended() {
        let link = Link::start(echo()).unwrap();
        let mut socket = connect(&link);
        socket.write_all(b"1").unwrap();
        assert_eq!(heard(&mut socket).unwrap(), b"1");
        link.set(Road::RESETS);
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(heard(&mut socket).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let mut other = connect(&link);
        other.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(heard(&mut other).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        link.set(Road::OPEN);
        let mut third = connect(&link);
        third.write_all(b"3").unwrap();
        assert_eq!(heard(&mut third).unwrap(), b"3");
    }

    #[test]
    fn nobody_at_the_other_end_is_a_reset() {
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let link = Link::start(nobody).unwrap();
        let mut socket = connect(&link);
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(heard(&mut socket).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
