//! The files of /proc/net and of /proc/sys/net.

use super::{
    Address, Family, Network, Socket, Style, UDP_LITE,
    socket::{Phase, Shut},
};
use alloc::{format, rc::Rc, string::String, vec::Vec};
use core::{fmt::Write, net::IpAddr};

/// Files of /proc/sys/net and what is in them. Their last names tell them apart well enough.
const SETTINGS: &[(&str, &str)] = &[
    ("somaxconn", "4096"),
    ("wmem_max", "212992"),
    ("rmem_max", "212992"),
    ("wmem_default", "212992"),
    ("rmem_default", "212992"),
    ("optmem_max", "20480"),
    ("netdev_max_backlog", "1000"),
    ("ip_local_port_range", "32768\t60999"),
    ("ip_unprivileged_port_start", "0"),
    ("ip_default_ttl", "64"),
    ("ip_forward", "0"),
    ("tcp_keepalive_time", "7200"),
    ("tcp_keepalive_intvl", "75"),
    ("tcp_keepalive_probes", "9"),
    ("tcp_fin_timeout", "60"),
    ("tcp_max_syn_backlog", "4096"),
    ("tcp_rmem", "4096\t131072\t6291456"),
    ("tcp_wmem", "4096\t16384\t4194304"),
    ("tcp_syncookies", "1"),
    ("tcp_tw_reuse", "2"),
    ("tcp_congestion_control", "cubic"),
    ("bindv6only", "0"),
    ("disable_ipv6", "0"),
    ("max_dgram_qlen", "10"),
];

/// The text of a file of /proc/net or /proc/sys/net.
#[must_use]
pub fn text(network: &Network, name: &str) -> String {
    let mut out = String::new();
    if let Some((_, value)) = SETTINGS.iter().find(|(known, _)| *known == name) {
        return format!("{value}\n");
    }
    // Writing into a string does not fail.
    let _ = match name {
        "tcp" => sockets(network, &mut out, Family::Inet, Style::Stream),
        "tcp6" => sockets(network, &mut out, Family::Inet6, Style::Stream),
        "udp" => sockets(network, &mut out, Family::Inet, Style::Datagram),
        "udp6" => sockets(network, &mut out, Family::Inet6, Style::Datagram),
        "unix" => unix(network, &mut out),
        "dev" => out.write_str(DEV),
        "route" => out.write_str(ROUTE),
        "if_inet6" => out.write_str("00000000000000000000000000000001 01 80 10 80       lo\n"),
        "ipv6_route" => out.write_str(IPV6_ROUTE),
        "netlink" => out.write_str("sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"),
        "arp" => out.write_str("IP address       HW type     Flags       HW address            Mask     Device\n"),
        "packet" => out.write_str("sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n"),
        "igmp" => out.write_str("Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n"),
        "raw" | "udplite" => out.write_str(HEAD),
        "raw6" => out.write_str(HEAD6),
        "sockstat" => sockstat(network, &mut out, Family::Inet),
        "sockstat6" => sockstat(network, &mut out, Family::Inet6),
        "snmp" => out.write_str(SNMP),
        _ => Ok(()),
    };
    out
}

const DEV: &str = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n";
const ROUTE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT                                                       \n";
const IPV6_ROUTE: &str = "00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000001 00000000 80200001       lo\n";
const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";
const HEAD_TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     \n";
const HEAD6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";
const HEAD6_TCP: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
const SNMP: &str = "Ip: Forwarding DefaultTTL\nIp: 2 64\n";

/// The state of a socket as Linux numbers those of TCP.
#[must_use]
pub fn state(socket: &Socket) -> u8 {
    if socket.style == Style::Datagram {
        return if socket.phase.get() == Phase::Connected { 1 } else { 7 };
    }
    match (socket.phase.get(), socket.shut()) {
        (Phase::Listening, _) => 10,
        (Phase::Connecting, _) => 2,
        (Phase::Fresh | Phase::Closed, _) => 7,
        (Phase::Connected, Shut { receive: true, send: false }) => 8,
        (Phase::Connected, Shut { receive: false, send: true }) => 5,
        (Phase::Connected, _) => 1,
    }
}

/// An address in the words of this file: each of an address's 32-bit words in the machine's order.
fn hexadecimal(address: &Address, family: Family) -> String {
    let address = address.internet();
    let port = address.map_or(0, |address| address.port());
    match (family, address.map(|address| address.ip())) {
        (Family::Inet6, ip) => {
            let octets = match ip {
                Some(IpAddr::V6(ip)) => ip.octets(),
                Some(IpAddr::V4(ip)) => ip.to_ipv6_mapped().octets(),
                None => [0; 16],
            };
            let mut out = String::new();
            for word in octets.as_chunks::<4>().0 {
                let _ = write!(out, "{:08X}", u32::from_le_bytes(*word));
            }
            format!("{out}:{port:04X}")
        }
        (_, Some(IpAddr::V4(ip))) => format!("{:08X}:{port:04X}", u32::from_le_bytes(ip.octets())),
        _ => format!("00000000:{port:04X}"),
    }
}

fn sockets(network: &Network, out: &mut String, family: Family, style: Style) -> core::fmt::Result {
    let is_tcp = style == Style::Stream;
    out.write_str(match (family, is_tcp) {
        (Family::Inet6, true) => HEAD6_TCP,
        (Family::Inet6, false) => HEAD6,
        (_, true) => HEAD_TCP,
        (_, false) => HEAD,
    })?;
    let mut number = 0;
    let mut result = Ok(());
    network.each(&mut |socket: &Rc<Socket>| {
        let is_shown = socket.family == family
            && socket.style == style
            && socket.protocol != UDP_LITE
            && !socket.local.borrow().is_none()
            && state(socket) != if is_tcp { 7 } else { 0 };
        if !is_shown || result.is_err() {
            return;
        }
        let received = if socket.is_listening() { socket.backlog().0 } else { socket.readable() };
        let sent = if socket.is_listening() { socket.backlog().1 } else { socket.unsent() };
        result = writeln!(
            out,
            "{number:4}: {} {} {:02X} {sent:08X}:{received:08X} 00:00000000 00000000 {:5} {:8} {} 1 0000000000000000 {}",
            hexadecimal(&socket.local.borrow(), family),
            hexadecimal(&socket.remote.borrow(), family),
            state(socket),
            socket.owner().1,
            0,
            socket.number,
            if is_tcp { "100 0 0 10 0" } else { "0" },
        );
        number += 1;
    });
    result
}

fn unix(network: &Network, out: &mut String) -> core::fmt::Result {
    writeln!(out, "Num       RefCount Protocol Flags    Type St Inode Path")?;
    let mut result = Ok(());
    network.each(&mut |socket: &Rc<Socket>| {
        if socket.family != Family::Unix || result.is_err() {
            return;
        }
        let connected = if socket.phase.get() == Phase::Connected { 3 } else { 1 };
        result = write!(
            out,
            "{:016x}: {:08X} 00000000 {:08X} {:04X} {connected:02X} {:5}",
            socket.number,
            Rc::strong_count(socket),
            if socket.is_listening() { 0x1_0000 } else { 0 },
            socket.style.number(),
            socket.number,
        )
        .and_then(|()| match socket.local.borrow().unix() {
            None => writeln!(out),
            Some(name) => {
                let shown = name.iter().map(|byte| if *byte == 0 { b'@' } else { *byte });
                let shown: Vec<u8> = shown.collect();
                writeln!(out, " {}", String::from_utf8_lossy(&shown))
            }
        });
    });
    result
}

fn sockstat(network: &Network, out: &mut String, family: Family) -> core::fmt::Result {
    let (mut all, mut tcp, mut udp) = (0, 0, 0);
    network.each(&mut |socket: &Rc<Socket>| {
        all += 1;
        tcp += u32::from(socket.family == family && socket.style == Style::Stream);
        udp += u32::from(socket.family == family && socket.style == Style::Datagram);
    });
    if family == Family::Inet6 {
        return writeln!(
            out,
            "TCP6: inuse {tcp}\nUDP6: inuse {udp}\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0"
        );
    }
    writeln!(
        out,
        "sockets: used {all}\nTCP: inuse {tcp} orphan 0 tw 0 alloc {tcp} mem 0\nUDP: inuse {udp} mem 0\nUDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    #[test]
    fn addresses_are_words_of_the_machine() {
        let v4 = Address::Internet(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 80));
        let v6 = Address::Internet(SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 80));
        assert_eq!(hexadecimal(&v4, Family::Inet), "0100007F:0050");
        assert_eq!(hexadecimal(&v6, Family::Inet6), "00000000000000000000000001000000:0050");
        assert_eq!(hexadecimal(&v4, Family::Inet6), "0000000000000000FFFF00000100007F:0050");
        assert_eq!(hexadecimal(&Address::None, Family::Inet), "00000000:0000");
    }
}
