//! Where a service listens, and what addresses others are told.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket},
    str::FromStr,
};

use super::{builder::Named, settings::Settings};
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

/// What is said of the address that others are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Advertise {
    /// It follows from the listener and the machine.
    Auto,
    /// The address of this network interface.
    Interface(String),
    /// This one; for the listener's port if it has none.
    Host { host: String, port: Option<u16> },
}

impl Advertise {
    pub(super) fn port(&self) -> Option<u16> {
        match self {
            Self::Host { port, .. } => *port,
            Self::Auto | Self::Interface(_) => None,
        }
    }
}

impl FromStr for Advertise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        if let Some(interface) = text.strip_prefix("if:").filter(|it| !it.is_empty()) {
            return Ok(Self::Interface(interface.to_owned()));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            let (host, port) = (in_brackets(ip), None);
            return Ok(Self::Host { host, port });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => match port.parse() {
                Ok(port) if port != 0 => (host, Some(port)),
                _ => return Err(unusable(text)),
            },
            None => (text, None),
        };
        let odd = |c: char| c.is_whitespace() || c.is_control() || "/[]@:".contains(c);
        let ip = |host: &str| Some(host.strip_prefix('[')?.strip_suffix(']')?.parse());
        let good = match ip(host) {
            Some(ip) => ip.is_ok_and(|ip: Ipv6Addr| !ip.is_unspecified()),
            None => !host.is_empty() && !host.contains(odd),
        };
        let host = host.to_owned();
        good.then_some(Self::Host { host, port })
            .ok_or_else(|| unusable(text))
    }
}

fn unusable(text: &str) -> String {
    format!(
        "{text:?} is no address to tell others: write `auto`, `host:port`, a host, an IP address \
         (IPv6 with its port in brackets), `if:INTERFACE` or `env:VARIABLE`"
    )
}

fn in_brackets(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// What others are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    /// For who asks for no name.
    pub(super) main: String,
    /// Each listener that has a name.
    pub(super) named: Named<String>,
}

/// How others reach this process, `etcd` being at these endpoints; the error says why they cannot, and how to mend it.
pub(super) fn advertised(
    settings: &Settings,
    etcd: &[String],
    bound: &Named<SocketAddr>,
) -> Result<Addresses, String> {
    Machine {
        route: &|v6| route(etcd, v6),
        interface: &interface,
    }
    .choose(settings, bound)
}

/// What is asked of the machine.
struct Machine<'a> {
    /// The way to etcd, for a listener that takes IPv6 connections or not.
    route: &'a dyn Fn(bool) -> Option<Route>,
    interface: &'a dyn Fn(&str, bool) -> Option<IpAddr>,
}

impl Machine<'_> {
    fn choose(&self, settings: &Settings, bound: &Named<SocketAddr>) -> Result<Addresses, String> {
        let mut all: Vec<(&str, Option<SocketAddr>)> = Vec::new();
        all.extend(bound.iter().map(|(name, bound)| (&**name, Some(*bound))));
        if all.is_empty() {
            // It listens by itself, where it says.
            all.extend(settings.advertise.iter().map(|(name, _)| (&**name, None)));
        }
        let Some(&(_, first)) = all.first() else {
            return Err("it listens nowhere: set `listen`, or `advertise` to `host:port`".into());
        };
        let main = self.address(settings, all[0].0, first)?;
        let mut named = Named::new();
        for (name, bound) in all.into_iter().filter(|(name, _)| !name.is_empty()) {
            match self.address(settings, name, bound) {
                Ok(address) => named.push((name.to_owned(), address)),
                // A port for this machine alone is a choice; the first one is what the service is for.
                Err(why) => tracing::info!(target: "coord::service", service = settings.name,
                    listener = name, "others are not told of this listener: {why}"),
            }
        }
        Ok(Addresses { main, named })
    }

    fn address(
        &self,
        settings: &Settings,
        name: &str,
        bound: Option<SocketAddr>,
    ) -> Result<String, String> {
        let of = |wanted: &str| {
            let mut all = settings.advertise.iter();
            all.find(|(name, _)| name == wanted).map(|(_, said)| said)
        };
        let said = of(name).or_else(|| of("")).unwrap_or(&Advertise::Auto);
        let port = said.port().or(bound.map(|bound| bound.port()));
        let port = port.ok_or("it listens nowhere, and `advertise` names no port")?;
        let v6 = bound.is_none_or(|bound| bound.is_ipv6());
        let host = match said {
            Advertise::Host { host, .. } => host.clone(),
            Advertise::Interface(name) => {
                let found = (self.interface)(name, v6);
                let ip = found.ok_or_else(|| {
                    format!("no interface `{name}` of this machine has an address that fits")
                })?;
                in_brackets(ip)
            }
            // Without a listener there was no port.
            Advertise::Auto => in_brackets(match bound.map(|bound| bound.ip()) {
                Some(ip) if !ip.is_unspecified() => ip,
                _ => settings
                    .platform_ip
                    .filter(|ip| v6 || ip.is_ipv4())
                    .or_else(|| Some((self.route)(v6)?.local))
                    .ok_or(
                        "no address of this machine leads to etcd: set `advertise` or \
                         COORD_ADVERTISE, or POD_IP",
                    )?,
            }),
        };
        let bare = host.trim_matches(['[', ']']);
        let ip: Option<IpAddr> = bare.parse().ok();
        if ip.is_some_and(|ip| ip.is_unspecified()) {
            return Err(format!(
                "nobody can connect to {host}: set `advertise` or COORD_ADVERTISE to an address of \
                 this machine"
            ));
        }
        // Only where everything is on this machine does anybody reach a loopback address.
        let local = ip.map_or(bare == "localhost", |ip| ip.is_loopback());
        if local && !(self.route)(true).is_some_and(|route| route.etcd.is_loopback()) {
            return Err(format!(
                "only this machine reaches {host}, and etcd is on another: listen on 0.0.0.0 or \
                 [::], or set `advertise` or COORD_ADVERTISE"
            ));
        }
        Ok(format!("{host}:{port}"))
    }
}

/// Which way this machine takes to etcd.
#[derive(Clone, Copy, Debug)]
struct Route {
    local: IpAddr,
    etcd: IpAddr,
}

/// The local address of the route to the first endpoint that has one, of a family that the listener
/// takes: an IPv6 one takes IPv4 connections too, an IPv4 one no others. Nothing is sent: connecting a
/// UDP socket only picks the route. Names are looked up, which blocks: not for a runtime's thread.
fn route(endpoints: &[String], v6: bool) -> Option<Route> {
    let addresses = endpoints.iter().flat_map(|endpoint| {
        let host = endpoint
            .rsplit_once("://")
            .map_or(&**endpoint, |(_, host)| host);
        let host = host.trim_end_matches('/');
        host.to_socket_addrs().into_iter().flatten()
    });
    let fits = |etcd: &SocketAddr| v6 || etcd.is_ipv4();
    addresses.filter(fits).find_map(|etcd| {
        let any: IpAddr = match etcd {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(etcd).ok()?;
        Some(Route {
            local: socket.local_addr().ok()?.ip(),
            etcd: etcd.ip(),
        })
    })
}

/// The first address of a network interface, of a family that the listener takes. One that is valid
/// on its link alone names no machine.
fn interface(name: &str, v6: bool) -> Option<IpAddr> {
    let all = if_addrs::get_if_addrs().ok()?;
    let all = all.into_iter().filter(|found| found.name == name);
    all.map(|found| found.ip())
        .find(|ip| (v6 || ip.is_ipv4()) && !link_local(*ip))
}

fn link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::builder::Given, *};
    use crate::options::Options;

    fn chosen(env: &[(&str, &str)], etcd: &str) -> Result<Addresses, String> {
        let read = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let given = Given {
            name: Some("s".into()),
            ..Given::default()
        };
        let settings = Settings::resolve(given, Ok(Options::default()), &read);
        let settings = settings.expect("valid");
        let etcd: IpAddr = etcd.parse().expect("an address");
        let local = match etcd.is_loopback() {
            true => etcd,
            false => "10.0.0.5".parse().expect("an address"),
        };
        Machine {
            route: &|_| Some(Route { local, etcd }),
            interface: &|name, _| (name == "eth1").then(|| "10.3.3.3".parse().expect("one")),
        }
        .choose(&settings, &settings.listen)
    }

    fn main(env: &[(&str, &str)], etcd: &str) -> Result<String, String> {
        chosen(env, etcd).map(|addresses| addresses.main)
    }

    const ANY: (&str, &str) = ("COORD_LISTEN", "0.0.0.0:80");

    #[test]
    fn what_is_said_wins_then_the_bound_address_then_the_platforms_then_the_route() {
        let said = |advertise| main(&[ANY, ("COORD_ADVERTISE", advertise)], "10.9.9.9");
        assert_eq!(said("svc.internal").as_deref(), Ok("svc.internal:80"));
        assert_eq!(said("10.4.4.4").as_deref(), Ok("10.4.4.4:80"));
        assert_eq!(said("10.4.4.4:7").as_deref(), Ok("10.4.4.4:7"));
        assert_eq!(said("if:eth1").as_deref(), Ok("10.3.3.3:80"));
        assert!(said("if:eth2").is_err());
        assert_eq!(said("auto").as_deref(), Ok("10.0.0.5:80"));
        assert_eq!(said("env:NOT_SET").as_deref(), Ok("10.0.0.5:80"));
        let from_variable = [ANY, ("COORD_ADVERTISE", "env:IP"), ("IP", "10.5.5.5")];
        let from_variable = main(&from_variable, "10.9.9.9");
        assert_eq!(from_variable.as_deref(), Ok("10.5.5.5:80"));

        let (pod, host) = (("POD_IP", "10.1.1.1"), ("HOST_IP", "10.8.8.8"));
        let platform = |env: &[_]| main(env, "10.9.9.9");
        assert_eq!(platform(&[ANY, host, pod]).as_deref(), Ok("10.1.1.1:80"));
        assert_eq!(platform(&[ANY, host]).as_deref(), Ok("10.8.8.8:80"));
        assert_eq!(platform(&[ANY]).as_deref(), Ok("10.0.0.5:80"));
        let bound = ("COORD_LISTEN", "10.2.2.2:80");
        assert_eq!(platform(&[bound, pod]).as_deref(), Ok("10.2.2.2:80"));
    }

    #[test]
    fn an_address_in_words_needs_no_listener_if_it_has_a_port() {
        let said = |advertise| main(&[("COORD_ADVERTISE", advertise)], "10.9.9.9");
        assert_eq!(said("a:9").as_deref(), Ok("a:9"));
        assert!(said("a").is_err());
        assert!(chosen(&[], "10.9.9.9").is_err());
        let two = chosen(&[("COORD_ADVERTISE", "grpc=a:1,http=b:2")], "10.9.9.9").expect("two");
        assert_eq!(two.main, "a:1");
        assert_eq!(two.named.len(), 2);
    }

    #[test]
    fn each_of_several_listeners_has_an_address_and_the_first_is_the_main_one() {
        let listen = (
            "COORD_LISTEN",
            "grpc=0.0.0.0:1, http=[::]:2, admin=127.0.0.1:3",
        );
        let advertise = ("COORD_ADVERTISE", "http=2001:db8::1");
        let all = chosen(&[listen, advertise], "10.9.9.9").expect("they are told");
        let named = |name: &str, address: &str| (name.to_owned(), address.to_owned());
        assert_eq!(all.main, "10.0.0.5:1");
        // The last is for this machine alone.
        let told = [
            named("grpc", "10.0.0.5:1"),
            named("http", "[2001:db8::1]:2"),
        ];
        assert_eq!(all.named, told);
    }

    #[test]
    fn a_loopback_address_is_told_only_beside_an_etcd_on_loopback() {
        for bound in ["0.0.0.0:80", "127.0.0.1:80"] {
            let beside = main(&[("COORD_LISTEN", bound)], "127.0.0.1");
            assert_eq!(beside.as_deref(), Ok("127.0.0.1:80"), "{bound}");
        }
        for env in [
            ("COORD_LISTEN", "127.0.0.1:80"),
            ("COORD_LISTEN", "[::1]:80"),
            ("COORD_ADVERTISE", "localhost:80"),
            ("COORD_ADVERTISE", "127.0.0.1:80"),
        ] {
            let why = main(&[env], "10.9.9.9").expect_err("nobody reaches it");
            assert!(why.contains("COORD_ADVERTISE"), "{why}");
        }
        for unspecified in ["0.0.0.0:80", "0.0.0.0"] {
            let env = [ANY, ("COORD_ADVERTISE", unspecified)];
            let why = main(&env, "127.0.0.1").expect_err("nobody can connect to it");
            assert!(why.contains("nobody"), "{why}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "a b:80",
            "http://a:80",
            "a:0",
            ":80",
            "a:port",
            "[::1",
            "[a]:80",
            "1:2:x",
            "if:",
        ] {
            assert!(bad.parse::<Advertise>().is_err(), "{bad:?}");
        }
        let host = |host: &str, port| Advertise::Host {
            host: host.to_owned(),
            port,
        };
        for (good, read) in [
            ("::1", host("[::1]", None)),
            ("[::1]:80", host("[::1]", Some(80))),
            ("10.0.0.1:80", host("10.0.0.1", Some(80))),
            ("a", host("a", None)),
        ] {
            assert_eq!(good.parse(), Ok(read), "{good}");
        }
    }

    #[test]
    fn the_route_to_this_machine_is_its_loopback_address() {
        let found = route(&["http://127.0.0.1:2379/".into()], false).expect("a route");
        assert!(found.local.is_loopback() && found.etcd.is_loopback());
    }

    #[test]
    fn the_loopback_interface_has_a_loopback_address() {
        let all = if_addrs::get_if_addrs().expect("the machine says");
        let loopback = all
            .iter()
            .find(|found| found.is_loopback())
            .expect("it has");
        let ip = interface(&loopback.name, true).expect("it has an address");
        assert!(ip.is_loopback());
        assert_eq!(interface("no such interface", true), None);
    }
}
