//! The sockets of each worker: one listener for each form and family, where the outer source port
//! shall tell inner flows apart a few more that only send, and one of each family that only asks
//! the kernel about paths.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::capabilities;
use crate::config::{EngineConfig, Form};
use crate::engine::adopt::SocketHandle;
use crate::error::StartError;
use crate::io::underlay::{Socket, Underlay};
use crate::sys::udp::UdpSocket;

/// Source ports a worker spreads the flows of one form over. More ports would spread finer but
/// tear apart the runs of small packets that leave as one send.
const FLOW_PORTS: usize = 4;

/// Opens the sockets of one worker; `shared` when other workers listen on the same ports.
pub(crate) fn open(config: &EngineConfig, shared: bool) -> Result<Underlay, StartError> {
    let (mut listeners, mut senders) = (Vec::new(), Vec::new());
    for place in places(config) {
        open_at(place, config, shared, (&mut listeners, &mut senders))?;
    }
    if listeners.is_empty() {
        return Err(StartError::NoForm);
    }
    underlay(listeners, senders, config, shared)
}

fn underlay(
    listeners: Vec<Socket>,
    senders: Vec<Socket>,
    config: &EngineConfig,
    shared: bool,
) -> Result<Underlay, StartError> {
    // What saves the way to any socket leaves no favourite anything to gain.
    let favourites = match config.offloads.favourite && !shared && config.shortcut.is_none() {
        true => favourites(&listeners, config),
        false => Vec::new(),
    };
    Ok(Underlay::new(
        listeners,
        favourites,
        senders,
        scouts(config)?,
    ))
}

/// A socket for the favourite of each listener, or none where that cannot be had: it only saves time.
fn favourites(listeners: &[Socket], config: &EngineConfig) -> Vec<(Socket, SocketAddr)> {
    let beside = |listener: &Socket| {
        let socket = prepared(listener.udp.beside()?, listener.form, config, listener.gro)?;
        Ok((socket, listener.udp.local()?))
    };
    let favourites: io::Result<_> = listeners.iter().map(beside).collect();
    favourites.unwrap_or_else(|error| {
        tracing::debug!("no sender gets a socket to itself: {error}");
        Vec::new()
    })
}

/// Every form at every address.
fn places(config: &EngineConfig) -> impl Iterator<Item = (Form, IpAddr)> {
    let at_each = |&form| config.bind.iter().map(move |&address| (form, address));
    config.forms.iter().flat_map(at_each)
}

/// Opens what one form needs at one address.
fn open_at(
    (form, address): (Form, IpAddr),
    config: &EngineConfig,
    shared: bool,
    (listeners, senders): (&mut Vec<Socket>, &mut Vec<Socket>),
) -> Result<(), StartError> {
    let local = SocketAddr::new(address, form.port());
    let listener = UdpSocket::bind(local, shared).map_err(|cause| StartError::Bind {
        address: local,
        cause,
    })?;
    let gro = config.offloads.gro;
    listeners.push(prepared(listener, form, config, gro).map_err(StartError::Socket)?);
    if spreads(form, config) {
        add_senders(senders, address, form, config).map_err(StartError::Socket)?;
    }
    Ok(())
}

/// What asks the kernel about paths.
fn scouts(config: &EngineConfig) -> Result<Vec<UdpSocket>, StartError> {
    let scouts = config.bind.iter().map(|&address| mute(address));
    scouts.collect::<Result<_, _>>().map_err(StartError::Socket)
}

/// A socket with a port of its own that hears nothing.
fn mute(address: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(address, 0), false)?;
    socket.refuse_input()?;
    Ok(socket)
}

/// Goes on with the sockets of a worker before. Those of a form that is not spoken any more are
/// closed, those of one that was not spoken are opened.
pub(crate) fn adopt(
    config: &EngineConfig,
    sockets: Vec<SocketHandle>,
    shared: bool,
) -> Result<Underlay, StartError> {
    let (mut listeners, mut senders) = (Vec::new(), Vec::new());
    let mut missing: Vec<_> = places(config).collect();
    for SocketHandle { port, fd } in sockets {
        let (udp, local) = UdpSocket::adopt(fd).map_err(StartError::Socket)?;
        if !config.bind.contains(&local.ip()) {
            let why = format!("it has a socket of port {port} at {local}");
            return Err(StartError::Adopted(why));
        }
        let mut forms = config.forms.iter().copied();
        let Some(form) = forms.find(|form| form.port() == port) else {
            continue;
        };
        missing.retain(|place| *place != (form, local.ip()));
        let gro = joins(&udp, config);
        let socket = prepared(udp, form, config, gro).map_err(StartError::Socket)?;
        match local.port() == port {
            true => listeners.push(socket),
            false => senders.push(socket),
        }
    }
    for place in missing {
        open_at(place, config, shared, (&mut listeners, &mut senders))?;
    }
    underlay(listeners, senders, config, shared)
}

/// Whether a socket that was at work before goes on joining datagrams. Told to stop, the kernel would hand out those it
/// has joined already without a word on where one ends, and all but the first would be lost.
fn joins(udp: &UdpSocket, config: &EngineConfig) -> bool {
    let joined = udp.has_gro();
    if joined && !config.offloads.gro {
        tracing::warn!(
            "the kernel goes on joining received datagrams on a socket that was taken over: restart the daemon for \
             --no-offload=gro to have its effect"
        );
    }
    joined || config.offloads.gro
}

/// VXLAN always spreads its flows, as the kernel's does; the UDP form when asked to.
fn spreads(form: Form, config: &EngineConfig) -> bool {
    matches!(form, Form::Vxlan { .. }) || config.flow_ports
}

fn add_senders(
    senders: &mut Vec<Socket>,
    address: IpAddr,
    form: Form,
    config: &EngineConfig,
) -> io::Result<()> {
    for _ in 0..FLOW_PORTS {
        senders.push(prepared(mute(address)?, form, config, config.offloads.gro)?);
    }
    Ok(())
}

fn prepared(udp: UdpSocket, form: Form, config: &EngineConfig, gro: bool) -> io::Result<Socket> {
    udp.report_tos()?;
    if matches!(form, Form::Vxlan { .. }) {
        udp.allow_fragments()?;
    }
    // A kernel before 5.0 has no such option: datagrams then come one by one.
    let gro = udp.set_gro(gro).is_ok() && gro;
    let segments_max = capabilities::gso_segments(&udp, &config.offloads);
    Ok(Socket {
        udp,
        form,
        segments_max,
        gro,
    })
}
