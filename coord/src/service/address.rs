//! Where a service listens, and what address others are told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};

use super::settings::Settings;
use crate::error::{Context, Error, Result};

/// The bound socket. Not blocking: it goes into a tokio listener.
pub(super) fn bind(address: SocketAddr) -> Result<TcpListener> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| Error::Unavailable {
        context: Context::new("listen").key(address.to_string()).cause(error),
        maybe_applied: false,
        detail: "the address cannot be bound".into(),
    })
}

/// The `host:port` that others reach this process at; the error says why there is none.
pub(super) fn advertised(
    settings: &Settings,
    bound: Option<SocketAddr>,
) -> Result<String, &'static str> {
    choose(settings, bound, route)
}

fn choose(
    settings: &Settings,
    bound: Option<SocketAddr>,
    route: impl Fn(&[String], SocketAddr) -> Option<Route>,
) -> Result<String, &'static str> {
    if let Some(advertise) = &settings.advertise {
        return said(advertise, bound);
    }
    let bound =
        bound.ok_or("it listens nowhere: set `listen`, or COORD_ADVERTISE to `host:port`")?;
    let pod = settings.pod_ip.as_deref().and_then(|ip| ip.parse().ok());
    let route = route(&settings.options.endpoints, bound);
    let ip = match bound.ip() {
        ip if !ip.is_unspecified() => ip,
        _ => pod
            .or(route.map(|route| route.local))
            .ok_or("no address of this machine reaches etcd: set COORD_ADVERTISE or POD_IP")?,
    };
    // Only where everything is on this machine does anybody reach a loopback address.
    if ip.is_loopback() && !route.is_some_and(|route| route.etcd.is_loopback()) {
        return Err(
            "it listens on a loopback address, which only this machine reaches, and etcd \
                    is on another: set COORD_ADVERTISE",
        );
    }
    Ok(SocketAddr::new(ip, bound.port()).to_string())
}

/// An address that was given in words: with its port, or for the bound one.
fn said(advertise: &str, bound: Option<SocketAddr>) -> Result<String, &'static str> {
    if let Ok(ip) = advertise.parse::<IpAddr>() {
        let bound = bound.ok_or("COORD_ADVERTISE names no port, and it listens nowhere")?;
        return Ok(SocketAddr::new(ip, bound.port()).to_string());
    }
    match (advertise.rsplit_once(':'), bound) {
        (Some(_), _) => Ok(advertise.to_owned()),
        (None, Some(bound)) => Ok(format!("{advertise}:{}", bound.port())),
        (None, None) => Err("COORD_ADVERTISE names no port, and it listens nowhere"),
    }
}

/// Which way this machine takes to etcd.
#[derive(Clone, Copy, Debug)]
struct Route {
    local: IpAddr,
    etcd: IpAddr,
}

/// The local address of the route to the first endpoint that has one, of the family that is
/// listened on. Nothing is sent: connecting a UDP socket only picks the route. Names are looked up,
/// which blocks: not for a runtime's thread.
fn route(endpoints: &[String], bound: SocketAddr) -> Option<Route> {
    let any: IpAddr = match bound {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let addresses = endpoints.iter().flat_map(|endpoint| {
        let host = endpoint
            .rsplit_once("://")
            .map_or(&**endpoint, |(_, host)| host);
        let host = host.trim_end_matches('/');
        host.to_socket_addrs().into_iter().flatten()
    });
    // An IPv6 listener takes IPv4 connections too; an IPv4 one no others.
    let same = |etcd: &SocketAddr| etcd.is_ipv4() || bound.is_ipv6();
    addresses.filter(same).find_map(|etcd| {
        let any = match etcd {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => any,
        };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(etcd).ok()?;
        Some(Route {
            local: socket.local_addr().ok()?.ip(),
            etcd: etcd.ip(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{super::builder::Given, *};
    use crate::options::Options;

    fn settings(env: &[(&str, &str)]) -> Settings {
        let read = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let given = Given {
            name: Some("s".into()),
            ..Given::default()
        };
        Settings::resolve(given, Ok(Options::default()), &read).expect("valid")
    }

    fn chosen(
        env: &[(&str, &str)],
        bound: Option<&str>,
        etcd: &str,
    ) -> Result<String, &'static str> {
        let local = match etcd {
            "127.0.0.1" => "127.0.0.1",
            _ => "10.0.0.5",
        };
        let route = Route {
            local: local.parse().expect("an address"),
            etcd: etcd.parse().expect("an address"),
        };
        let bound = bound.map(|bound| bound.parse().expect("an address"));
        choose(&settings(env), bound, |_, _| Some(route))
    }

    #[test]
    fn what_is_said_wins_then_the_bound_address_then_the_platforms_then_the_route() {
        let all = [("COORD_ADVERTISE", "svc.internal"), ("POD_IP", "10.1.1.1")];
        let any = Some("0.0.0.0:80");
        assert_eq!(
            chosen(&all, any, "10.9.9.9").as_deref(),
            Ok("svc.internal:80")
        );
        assert_eq!(
            chosen(&all[1..], any, "10.9.9.9").as_deref(),
            Ok("10.1.1.1:80")
        );
        assert_eq!(chosen(&[], any, "10.9.9.9").as_deref(), Ok("10.0.0.5:80"));
        assert_eq!(
            chosen(&all[1..], Some("10.2.2.2:80"), "10.9.9.9").as_deref(),
            Ok("10.2.2.2:80")
        );
    }

    #[test]
    fn an_address_in_words_needs_no_listener_if_it_has_a_port() {
        assert_eq!(
            chosen(&[("COORD_ADVERTISE", "a:9")], None, "10.9.9.9").as_deref(),
            Ok("a:9")
        );
        assert_eq!(
            chosen(&[("COORD_ADVERTISE", "::1")], Some("[::]:80"), "10.9.9.9").as_deref(),
            Ok("[::1]:80")
        );
        assert!(chosen(&[("COORD_ADVERTISE", "a")], None, "10.9.9.9").is_err());
        assert!(chosen(&[], None, "10.9.9.9").is_err());
    }

    #[test]
    fn a_loopback_address_is_told_only_beside_an_etcd_on_loopback() {
        for bound in ["0.0.0.0:80", "127.0.0.1:80"] {
            let beside = chosen(&[], Some(bound), "127.0.0.1");
            assert_eq!(beside.as_deref(), Ok("127.0.0.1:80"), "{bound}");
        }
        assert!(chosen(&[], Some("127.0.0.1:80"), "10.9.9.9").is_err());
    }

    #[test]
    fn the_route_to_this_machine_is_its_loopback_address() {
        let bound = "0.0.0.0:80".parse().expect("an address");
        let found = route(&["http://127.0.0.1:2379/".into()], bound).expect("a route");
        assert!(found.local.is_loopback() && found.etcd.is_loopback());
    }
}
