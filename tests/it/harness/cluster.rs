//! A Redis cluster of real servers, which notice within a second that one of them is gone.

use std::time::Duration;

use ringback::domain::ids::BatchId;

use super::{PATIENCE, Redis, StoreUrl, eventually, free_port};

const MASTERS: usize = 3;
const SLOTS: usize = 16_384;

/// The cluster: three masters, each with a third of the slots, and replicas if asked for.
pub(crate) struct Cluster {
    /// The masters of the beginning, in the order of their slots.
    pub(crate) masters: Vec<Redis>,
    /// The replicas of the beginning: each of the master at the same place.
    pub(crate) replicas: Vec<Redis>,
}

// === impl Cluster ===

impl Cluster {
    /// Starts a cluster in which the first so many masters have a replica.
    pub(crate) async fn start(replicas: usize) -> Self {
        let ports: Vec<_> = (0..MASTERS + replicas).map(|_| free_port().to_string()).collect();
        let mut nodes: Vec<_> = ports.iter().map(|bus| node(bus)).collect();
        for node in &mut nodes {
            node.wait_until_it_answers().await;
        }
        let first = nodes[0].port();
        for (place, node) in nodes.iter().enumerate() {
            // Without this they would begin with the same number, and have to come to terms.
            node.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", place + 1));
            if place < MASTERS {
                let (from, to) = (place * SLOTS / MASTERS, (place + 1) * SLOTS / MASTERS - 1);
                assert!(node.ask(&format!("CLUSTER ADDSLOTSRANGE {from} {to}")).is_empty());
            }
            node.ask(&format!("CLUSTER MEET 127.0.0.1 {first} {}", ports[0]));
        }
        let replicas = nodes.split_off(MASTERS);
        let cluster = Self { masters: nodes, replicas };
        let size = ports.len();
        cluster.wait_until_all_say(&format!("cluster_known_nodes:{size}\r")).await;
        for (master, replica) in cluster.masters.iter().zip(&cluster.replicas) {
            let id = master.ask("CLUSTER MYID");
            let id = id.lines().nth(1).unwrap().to_owned();
            let order = format!("CLUSTER REPLICATE {id}");
            eventually("a replica", PATIENCE, async || {
                replica.ask(&order).is_empty().then_some(())
            })
            .await;
        }
        cluster.wait_until_all_say("cluster_state:ok\r").await;
        for replica in &cluster.replicas {
            eventually("a replica in step", PATIENCE, async || {
                replica.ask("INFO replication").contains("master_link_status:up").then_some(())
            })
            .await;
        }
        cluster
    }

    /// Has what can be served go on when a master is gone.
    pub(crate) fn serve_what_is_left(&self) {
        for master in &self.masters {
            master.ask("CONFIG SET cluster-require-full-coverage no");
        }
    }

    /// Waits until the replica at this place is the master.
    pub(crate) async fn wait_for_failover(&self, place: usize) {
        eventually("a new master", PATIENCE, async || {
            self.replicas[place].ask("ROLE").contains("master").then_some(())
        })
        .await;
    }

    /// How many of these batches lie on the masters at these places.
    pub(crate) fn on(&self, ids: &[String], masters: &[usize]) -> usize {
        let lies_on = |id: &str, master: &usize| {
            let key = format!("EXISTS rb:{{p{:02}}}:b:{}", partition(id), &id[4..]);
            self.masters[*master].ask(&key) == ":1\r\n"
        };
        ids.iter().filter(|id| masters.iter().any(|master| lies_on(id, master))).count()
    }

    /// Empties every master.
    pub(crate) fn flush(&self) {
        for master in &self.masters {
            assert!(master.ask("FLUSHALL").is_empty());
        }
    }

    async fn wait_until_all_say(&self, words: &str) {
        for node in self.masters.iter().chain(&self.replicas) {
            eventually(words, PATIENCE, async || {
                let info = node.try_ask("CLUSTER INFO", Duration::from_secs(1)).ok()?;
                info.contains(words).then_some(())
            })
            .await;
        }
    }
}

impl StoreUrl for Cluster {
    fn store_url(&self) -> String {
        let hosts = self.masters.iter().map(|node| format!("127.0.0.1:{}", node.port()));
        let hosts = hosts.collect::<Vec<_>>().join(",");
        format!("redis-cluster://{}{hosts}", Redis::login())
    }
}

/// The partition of a batch.
fn partition(id: &str) -> u16 {
    id.parse::<BatchId>().unwrap().partition()
}

fn node(bus: &str) -> Redis {
    let options =
        ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", bus];
    let replicas = ["--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"];
    Redis::spawn_with(&[&options[..], &replicas].concat())
}
