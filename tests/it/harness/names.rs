//! A name server on loopback that answers as it is told, and keeps a book of what it was asked.

use std::{
    collections::{HashMap, VecDeque},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;

/// The types of records that are known here.
const A: u16 = 1;
const CNAME: u16 = 5;

/// How a record names the one that was asked for: as what stands at the twelfth byte.
const THE_SAME: [u8; 2] = [0xc0, 12];

/// The name server. Ends when dropped.
pub(crate) struct NameServer {
    address: SocketAddr,
    zone: Arc<Zone>,
}

/// What a name is answered with. Only questions for IPv4 addresses are; to others there is nothing.
#[derive(Clone, Debug)]
pub(crate) enum Records {
    /// These addresses, to be forgotten at once.
    Addresses(Vec<Ipv4Addr>),
    /// Another name, with its addresses.
    Alias(&'static str, Vec<Ipv4Addr>),
    /// SERVFAIL.
    Failure,
    /// NXDOMAIN.
    Unknown,
    /// No answer at all.
    Silence,
    /// These addresses, after this long.
    Late(Duration, Vec<Ipv4Addr>),
}

#[derive(Default)]
struct Zone {
    /// The last answer is repeated for ever.
    names: HashMap<&'static str, Mutex<VecDeque<Records>>>,
    asked: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

// === impl NameServer ===

impl NameServer {
    /// Starts a server that knows these names, each with its answers one after the other.
    pub(crate) fn start<const N: usize>(names: [(&'static str, Vec<Records>); N]) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let address = socket.local_addr().unwrap();
        let names = names.into_iter().map(|(name, answers)| (name, Mutex::new(answers.into())));
        let zone = Arc::new(Zone { names: names.collect(), ..Zone::default() });
        let open = Arc::clone(&zone);
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while !open.is_over.load(Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let Some((answer, delay)) = open.answer(&buffer[..length]) else { continue };
                // Who asked may be gone.
                if delay.is_zero() {
                    let _ = socket.send_to(&answer, from);
                } else {
                    let socket = socket.try_clone().unwrap();
                    thread::spawn(move || {
                        thread::park_timeout(delay);
                        let _ = socket.send_to(&answer, from);
                    });
                }
            }
        });
        Self { address, zone }
    }

    /// Where it is asked, as `callbacks.dns_servers` has it.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// How many times it was asked for the IPv4 addresses of a name.
    pub(crate) fn asked_for(&self, name: &str) -> usize {
        self.zone.asked.lock().iter().filter(|asked| *asked == name).count()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.zone.is_over.store(true, Relaxed);
    }
}

// === impl Zone ===

impl Zone {
    /// The answer to a query, if there is to be one, and how long it takes.
    fn answer(&self, query: &[u8]) -> Option<(Vec<u8>, Duration)> {
        let (name, end) = name(query)?;
        let kind = u16::from_be_bytes(query.get(end..end + 2)?.try_into().ok()?);
        let question = query.get(12..end + 4)?;
        let found = self.records(&name, kind);
        let delay = if let Records::Late(delay, _) = found { delay } else { Duration::ZERO };
        let (code, records) = match found {
            Records::Addresses(addresses) | Records::Late(_, addresses) => {
                (0, addresses_of(&THE_SAME, &addresses))
            }
            Records::Alias(alias, addresses) => {
                let alias = encoded(alias);
                let first = record(&THE_SAME, CNAME, &alias);
                (0, [vec![first], addresses_of(&alias, &addresses)].concat())
            }
            Records::Failure => (2, Vec::new()),
            Records::Unknown => (3, Vec::new()),
            Records::Silence => return None,
        };
        let count = u8::try_from(records.len()).ok()?;
        let mut answer = query[..2].to_vec();
        // A response, recursion desired and available; one question.
        answer.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
        answer.extend(question);
        answer.extend(records.concat());
        Some((answer, delay))
    }

    fn records(&self, name: &str, kind: u16) -> Records {
        let Some(answers) = self.names.get(name) else { return Records::Unknown };
        let mut answers = answers.lock();
        if kind != A {
            return match answers.front() {
                Some(Records::Addresses(_) | Records::Alias(..) | Records::Late(..)) => {
                    Records::Addresses(Vec::new())
                }
                other => other.cloned().unwrap_or(Records::Unknown),
            };
        }
        self.asked.lock().push(name.to_owned());
        let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        next.unwrap_or(Records::Unknown)
    }
}

/// The name that is asked for, and where it ends.
fn name(query: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = query.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        at += length;
    }
}

fn encoded(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| {
        let length = u8::try_from(label.len()).unwrap();
        std::iter::once(length).chain(label.bytes())
    });
    labels.chain([0]).collect()
}

fn addresses_of(owner: &[u8], addresses: &[Ipv4Addr]) -> Vec<Vec<u8>> {
    addresses.iter().map(|ip| record(owner, A, &ip.octets())).collect()
}

/// A record that may be kept for no time.
fn record(owner: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    let mut record = owner.to_vec();
    record.extend(kind.to_be_bytes());
    record.extend([0, 1, 0, 0, 0, 0]);
    record.extend(length.to_be_bytes());
    record.extend(data);
    record
}
