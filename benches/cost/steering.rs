//! A hold on what runs: how soon a cancel or a pause is answered, and how soon nothing leaves any more.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::{net::TcpListener, time::sleep};

use crate::{
    emulator::{self, Arrivals},
    harness::{Backing, Client, Kind, Receiver, Ringback, eventually},
    lines,
    report::{median, milliseconds, whole},
};

const MESSAGES: usize = 1_000_000;
const ROUNDS: usize = 5;
const LONGEST: Duration = Duration::from_mins(2);

/// How many messages the provider has when the wish is made.
const UNDER_WAY: usize = 100_000;

/// From when on nothing may arrive any more, after the answer.
const GRACE: Duration = Duration::from_secs(1);

/// How long the provider's book is watched after the answer.
const WATCHED: Duration = Duration::from_secs(3);

/// The provider's book.
static BOOK: Arrivals = Arrivals::new(Vec::new());

/// A running batch that is canceled, and one that is paused.
pub(crate) async fn steering(on: Kind) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let provider = tokio::spawn(emulator::serve(listener, Some(&BOOK)));
    let store = Backing::start(on).await;
    let service = Ringback::on(&store).set("log.filter", "warn").carrier(&url).start().await;
    let (client, receiver) = (service.client(), Receiver::start());
    let mut reported = 0;
    for wish in ["cancel", "pause"] {
        let (mut answers, mut lasts) = (Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            let id = begin(&client, &receiver).await;
            let asked = Instant::now();
            post(&client, &id, wish).await;
            let answered = Instant::now();
            sleep(WATCHED).await;
            let (last, late) = look(answered);
            answers.push(milliseconds(answered - asked));
            lasts.push(last);
            if wish == "pause" {
                post(&client, &id, "cancel").await;
            }
            reported += 1;
            let callback = &receiver.wait_for(reported, LONGEST).await[reported - 1];
            let counts = check(&callback.json()["data"]["counts"]);
            let reported = milliseconds(callback.at.saturating_duration_since(answered));
            let reported = match wish {
                "cancel" => format!("callback {reported:.0} ms after it, "),
                _ => String::new(),
            };
            println!(
                "  {wish} {round}: answered in {:.1} ms, the last message {last:.1} ms after the \
                 answer, {late} later than 1 s, {reported}{counts}",
                milliseconds(answered - asked),
            );
        }
        println!(
            "  {wish}: answered in {:.1} ms (median), {:.1} ms (longest); last message at most {:.1} ms after",
            median(&answers),
            answers.iter().copied().fold(0.0, f64::max),
            lasts.iter().copied().fold(f64::MIN, f64::max),
        );
    }
    provider.abort();
}

/// Starts a batch; gives its id once it is well under way.
async fn begin(client: &Client, receiver: &Receiver) -> String {
    BOOK.lock().clear();
    let head = json!({"body": "Hello", "callback_url": receiver.url()}).to_string();
    let id = lines::post(client, &head, MESSAGES).await;
    let is_under_way = || BOOK.lock().len() >= UNDER_WAY;
    eventually("a batch under way", LONGEST, async || is_under_way().then_some(())).await;
    id
}

async fn post(client: &Client, id: &str, wish: &str) {
    let answer = client.post(&format!("/v1/batches/{id}/{wish}"), &[], "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// When the last message arrived, in milliseconds after `answered`, and how many came after the grace.
fn look(answered: Instant) -> (f64, usize) {
    let book = BOOK.lock();
    let last = *book.iter().max().expect("a message");
    let late = book.iter().filter(|at| **at > answered + GRACE).count();
    let after = milliseconds(last.saturating_duration_since(answered));
    (after - milliseconds(answered.saturating_duration_since(last)), late)
}

/// Checks that the counts add up, and that they are the provider's; then says what they are.
fn check(counts: &Value) -> String {
    let total = counts["total"].as_u64().expect("a total");
    let each = counts.as_object().expect("counts").iter().filter(|(name, _)| *name != "total");
    let sum: u64 = each.filter_map(|(_, count)| count.as_u64()).sum();
    assert_eq!((sum, total), (total, MESSAGES as u64), "{counts}");
    assert_eq!(counts["sent"], BOOK.lock().len(), "the provider's book says otherwise: {counts}");
    let said = ["sent", "canceled"].map(|state| counts[state].as_f64().expect("a count"));
    format!("{} sent + {} canceled, as in the book", whole(said[0]), whole(said[1]))
}
