//! `ringback send`: a list of recipients and a body become a batch.
//!
//! The list is read as it is uploaded, in constant memory, and the batch begins when all of it has
//! arrived: a flawed list, or an upload that is broken off, sends nothing.

mod dry_run;
mod estimate;
mod failed;
mod list;
mod message;
mod meter;
mod ndjson;
mod reader;
mod recipient;
mod upload;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::Args;

use self::{
    dry_run::DryRun,
    failed::FailedTo,
    list::{List, Progress},
    message::{Message, Prepared},
    meter::Meter,
    reader::Format,
    upload::Upload,
};
use super::{
    Failure,
    interrupt::Interrupt,
    print,
    progress::{self, View},
    remote::Remote,
    say, table,
};
use crate::{
    api::model::BatchResource,
    client::{Client, Submitted},
};

/// The longest idempotency key, in bytes.
const KEY_BYTES_MAX: usize = 255;

const EXAMPLES: &str = "\
Examples:
  ringback send customers.csv --body 'Hi {{name}}, your code is {{code}}' --from +15550001111
  ringback send customers.csv --body-file body.txt --variable name=there --dry-run
  ringback send customers.csv --body-file body.txt --smart-encoding --estimate
  psql -c 'copy …' | ringback send - --format csv --body 'We moved' --failed-to failed.csv

A CSV list begins with a header line. The column `to` is needed, `reference` is taken if it is
there, and columns whose names the body uses are variables; others stay here. A line of an NDJSON
list is a recipient as the API takes it: a number as a string, or an object with `to`, `reference`
and `variables`.";

/// Send a message to each recipient of a list
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SendList {
    /// The list: CSV with a header line, or NDJSON; `-` for standard input
    #[arg(value_name = "LIST")]
    list: PathBuf,

    /// How the list is written; by its extension or its first byte if not said
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,

    #[command(flatten)]
    message: Message,

    /// Send the batch under this name: the same list under the same key is sent once only. A random
    /// one if not given
    #[arg(long, value_name = "KEY", value_parser = idempotency_key)]
    idempotency_key: Option<String>,

    /// Wait until the last message is final, which is the default
    #[arg(long = "wait", overrides_with = "no_wait")]
    _wait: bool,

    /// Print the batch's id as soon as it is accepted, and wait no longer
    #[arg(long, visible_alias = "detach", overrides_with = "_wait", conflicts_with = "failed_to")]
    no_wait: bool,

    /// Read the whole list, show the first messages and what is wrong, and send nothing
    #[arg(long, conflicts_with_all = ["failed_to", "no_wait", "idempotency_key"])]
    dry_run: bool,

    /// Have the server say what the batch would come to, and send nothing
    #[arg(long, conflicts_with_all = ["dry_run", "failed_to", "no_wait", "idempotency_key"])]
    estimate: bool,

    /// Write the recipients that did not go to this file, as CSV
    #[arg(long, value_name = "FILE")]
    failed_to: Option<PathBuf>,

    /// Print the batch, or what was found, as one line of JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: Remote,
}

// === impl SendList ===

impl SendList {
    pub(super) fn run(self) -> Result<(), Failure> {
        let list = List::new(&self.list, self.format);
        let prepared = self.message.prepare()?;
        if self.dry_run {
            return DryRun::new(&prepared.composer).run(&list, &prepared.needs, self.json);
        }
        if self.estimate {
            return self
                .remote
                .run(async |client| estimate(&client, &list, &prepared, self.json).await);
        }
        let failed_to = self.failed_to.as_deref().map(FailedTo::create).transpose()?;
        self.remote.run(|client| self.send(client, list, prepared, failed_to))
    }

    /// Uploads the list, and waits for the end of the batch if that is wanted.
    async fn send(
        &self,
        client: Client,
        list: List,
        prepared: Prepared,
        failed_to: Option<FailedTo>,
    ) -> Result<(), Failure> {
        let mut interrupt = interrupt()?;
        let key = self.idempotency_key.clone().unwrap_or_else(random_key);
        let call = async |upload: Upload<'_>| upload.run(&client, &key).await;
        let doubt = || upload::doubt(&key);
        let submitted = upload(&mut interrupt, &list, &prepared, call, doubt).await?;
        say(&accepted(&submitted));
        let batch = submitted.batch;
        if self.no_wait {
            return print(&if self.json {
                table::json_line(&batch)?
            } else {
                format!("{}\n", batch.id)
            });
        }
        self.wait(&client, &mut interrupt, &batch, failed_to).await
    }

    /// Waits for the end of the batch and tells of it.
    async fn wait(
        &self,
        client: &Client,
        interrupt: &mut Interrupt,
        batch: &BatchResource,
        failed_to: Option<FailedTo>,
    ) -> Result<(), Failure> {
        let mut view = View::for_people();
        let followed = tokio::select! {
            followed = progress::follow(client, batch.id, &mut view) => Some(followed),
            () = interrupt.next() => None,
        };
        let Some(followed) = followed else {
            view.leave();
            say(&goes_on(client, batch));
            return Err(Failure::Interrupted);
        };
        let batch = followed.inspect_err(|_| say(&goes_on(client, batch)))?;
        print(&if self.json { table::json_line(&batch)? } else { table::counts(&batch.counts) })?;
        if let Some(failed_to) = failed_to {
            failed_to.write(client, &batch).await?;
        }
        progress::verdict(&batch.counts)
    }
}

fn interrupt() -> Result<Interrupt, Failure> {
    Interrupt::new().map_err(|error| Failure::Failed(error.into()))
}

/// Uploads the list for an estimate and tells of it.
async fn estimate(
    client: &Client,
    list: &List,
    prepared: &Prepared,
    json: bool,
) -> Result<(), Failure> {
    let call = async |upload: Upload<'_>| upload.estimate(client).await;
    let nothing = || "Nothing was sent: this was an estimate.".to_owned();
    let estimate = upload(&mut interrupt()?, list, prepared, call, nothing).await?;
    estimate::tell(&estimate, json)
}

/// Uploads the list by `call`, unless it is interrupted: then `doubt` says what is known once all of it
/// was uploaded.
async fn upload<T>(
    interrupt: &mut Interrupt,
    list: &List,
    prepared: &Prepared,
    call: impl AsyncFnOnce(Upload<'_>) -> Result<T, Failure>,
    doubt: impl FnOnce() -> String,
) -> Result<T, Failure> {
    let (progress, is_uploaded) = (Arc::new(Progress::default()), Arc::new(AtomicBool::new(false)));
    let meter = Meter::new(list.file_bytes());
    let upload = Upload {
        list,
        head: &prepared.head,
        needs: &prepared.needs,
        meter: &meter,
        progress: Arc::clone(&progress),
        is_uploaded: Arc::clone(&is_uploaded),
    };
    let done = tokio::select! {
        done = call(upload) => Some(done),
        () = interrupt.next() => None,
        () = meter.run(&progress) => None,
    };
    meter.end();
    if let Some(done) = done {
        return done;
    }
    say(&if is_uploaded.load(Ordering::Relaxed) {
        doubt()
    } else {
        "Nothing was sent: the upload was broken off.".to_owned()
    });
    Err(Failure::Interrupted)
}

fn accepted(submitted: &Submitted) -> String {
    let total = table::counted(submitted.batch.counts.total, "recipient");
    let id = submitted.batch.id;
    if submitted.replayed {
        format!("{id} was sent before under this idempotency key, to {total}.")
    } else {
        format!("Accepted as {id}, with {total}.")
    }
}

fn goes_on(client: &Client, batch: &BatchResource) -> String {
    let watch = progress::again(client, batch.id);
    let cancel = watch.replacen(" watch ", " cancel ", 1);
    format!(
        "The batch goes on at the server. To watch it, or to cancel what has not left:\n  \
         {watch}\n  {cancel}"
    )
}

fn random_key() -> String {
    format!("send-{:032x}", rand::random::<u128>())
}

/// Reads an idempotency key.
///
/// # Errors
/// What one is.
pub(super) fn idempotency_key(text: &str) -> Result<String, String> {
    let is_one = (1..=KEY_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_one
        .then(|| text.to_owned())
        .ok_or_else(|| format!("a key is 1 to {KEY_BYTES_MAX} visible ASCII characters"))
}
