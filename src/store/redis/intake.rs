//! [`Intake`] on Redis.

use async_trait::async_trait;
use redis::Cmd;

use super::{
    RedisStore, codec,
    keys::{self, PartitionKeys},
    scripts,
};
use crate::{
    domain::{
        batch::{BatchSpec, DeliveryGuarantee},
        chunk::NewChunk,
        ids::BatchId,
        quiet_hours::QuietHours,
        time::millis,
        units::Rate,
    },
    store::{
        Day, Draft, Intake, IntakeError, Opened, ReplayError, ReplayOrder, Seal, StoreError,
        Upload, WishError, stored,
    },
};

#[async_trait]
impl Intake for RedisStore {
    async fn open(&self, draft: &Draft) -> Result<Opened, StoreError> {
        let spec = stored::write_spec(&draft.spec);
        let callback = draft.spec.callback.as_ref();
        let (percent, every_ms) = stored::pace(callback);
        let places = self.places_here(draft).await?;
        let at_most_once = draft.spec.guarantee == DeliveryGuarantee::AtMostOnce;
        let answer = self
            .link
            .run(&scripts::OPEN, &keys::of(draft.id), |call| {
                call.arg(draft.id.ulid())
                    .arg(draft.token)
                    .arg(self.upload_lease_ms())
                    .arg(&draft.spec.account)
                    .arg(&draft.spec.provider)
                    .arg(draft.key.as_ref().map_or("", |key| key.0.as_str()))
                    .arg(&spec)
                    .arg(self.retention_ms())
                    .arg(draft.spec.reference.as_deref().unwrap_or(""))
                    .arg(callback.map_or("", |callback| &callback.host))
                    .arg(stored::wants(callback))
                    .arg(percent.map_or_else(String::new, |percent| percent.to_string()))
                    .arg(every_ms.map_or_else(String::new, |every_ms| every_ms.to_string()))
                    .arg(draft.spec.send_at.map_or_else(String::new, |at| at.0.to_string()))
                    .arg(draft.spec.expire_at.map_or_else(String::new, |at| at.0.to_string()))
                    .arg(draft.spec.priority as u8)
                    .arg(places.map_or_else(String::new, |places| places.to_string()))
                    .arg(draft.spec.rate.map_or_else(String::new, interval_ns))
                    .arg(
                        draft
                            .spec
                            .quiet_hours
                            .as_ref()
                            .map_or_else(String::new, QuietHours::packed),
                    )
                    .arg(if at_most_once { "1" } else { "" })
                    .arg(millis(draft.receipt_timeout));
            })
            .await?;
        let mut answer = codec::list(answer)?.into_iter();
        match codec::text(answer.next().unwrap_or(redis::Value::Nil))?.as_str() {
            "new" => Ok(Opened::New(Upload { id: draft.id, token: draft.token })),
            "under way" => Ok(Opened::UnderWay),
            "too many" => Ok(Opened::TooMany),
            "replayed" => {
                let id = codec::text(answer.next().unwrap_or(redis::Value::Nil))?;
                let hash = codec::bytes(answer.next().unwrap_or(redis::Value::Nil))?;
                Ok(Opened::Replayed {
                    id: BatchId::from_ulid(&id).map_err(|_| codec::unexpected("a batch id"))?,
                    body_hash: hash.try_into().map_err(|_| codec::unexpected("a body hash"))?,
                })
            }
            other => Err(codec::unexpected(other)),
        }
    }

    async fn append(&self, upload: &Upload, chunks: &[NewChunk]) -> Result<(), IntakeError> {
        let answer = self
            .link
            .run(&scripts::APPEND, &keys::of(upload.id), |call| {
                call.arg(upload.id.ulid()).arg(upload.token).arg(self.upload_lease_ms());
                for chunk in chunks {
                    call.arg(chunk.number)
                        .arg(&chunk.first.to_be_bytes())
                        .arg(&chunk.states)
                        .arg(&chunk.recipients)
                        .arg(&chunk.log);
                }
            })
            .await?;
        went_on(&codec::text(answer)?, "ok")
    }

    async fn seal(&self, upload: &Upload, seal: &Seal) -> Result<(), IntakeError> {
        let Some(share) = &seal.day else { return self.seal_uncounted(upload, seal).await };
        self.count_batch(upload.id, share).await?;
        let sealed = self.seal_uncounted(upload, seal).await;
        // After any other error it may be sealed.
        if let Err(IntakeError::Gone | IntakeError::Store(StoreError::Full(_))) = sealed {
            self.uncount_batch(upload.id, share).await;
        }
        sealed
    }

    async fn day(&self, account: &str) -> Result<Day, StoreError> {
        self.look_at_day(account).await
    }

    async fn abandon(&self, upload: &Upload) -> Result<(), StoreError> {
        let drop = |call: &mut Cmd| {
            call.arg(upload.id.ulid()).arg(upload.token);
        };
        self.link.run(&scripts::DROP, &keys::of(upload.id), drop).await.map(|_| ())
    }

    async fn cancel(&self, account: &str, id: BatchId) -> Result<(), WishError> {
        self.wish(&scripts::CANCEL, account, id).await
    }

    async fn pause(&self, account: &str, id: BatchId) -> Result<(), WishError> {
        self.wish(&scripts::PAUSE, account, id).await
    }

    async fn resume(&self, account: &str, id: BatchId) -> Result<(), WishError> {
        self.wish(&scripts::RESUME, account, id).await
    }

    async fn amend(
        &self,
        id: BatchId,
        was: &BatchSpec,
        becomes: &BatchSpec,
    ) -> Result<bool, WishError> {
        let answer = self
            .link
            .run(&scripts::AMEND, &keys::of(id), |call| {
                call.arg(&was.account)
                    .arg(id.ulid())
                    .arg(stored::write_spec(was))
                    .arg(stored::write_spec(becomes))
                    .arg(becomes.send_at.map_or_else(String::new, |at| at.0.to_string()))
                    .arg(becomes.expire_at.map_or_else(String::new, |at| at.0.to_string()));
            })
            .await?;
        match codec::text(answer)?.as_str() {
            "changed" => Ok(false),
            answer => granted(answer).map(|()| true),
        }
    }

    async fn erase(&self, account: &str, id: BatchId) -> Result<(), WishError> {
        self.wish(&scripts::ERASE, account, id).await
    }

    async fn replay(&self, account: &str, id: BatchId) -> Result<(), ReplayError> {
        let answer = self
            .link
            .run(&scripts::REPLAY, &keys::of(id), |call| {
                call.arg(account).arg(id.ulid());
            })
            .await?;
        match codec::text(answer)?.as_str() {
            "ok" => Ok(()),
            "not found" => Err(ReplayError::NotFound),
            "not over" => Err(ReplayError::NotOver),
            "no callback" => Err(ReplayError::NoCallback),
            other => Err(codec::unexpected(other).into()),
        }
    }

    async fn order_replay(&self, account: &str, order: &ReplayOrder) -> Result<(), StoreError> {
        for partition in 0..self.partitions {
            let note = |call: &mut Cmd| {
                call.arg(order.nonce)
                    .arg(account)
                    .arg(order.state.word())
                    .arg(order.since.0)
                    .arg(order.host.as_deref().unwrap_or(""));
            };
            self.link.run(&scripts::ORDER, &keys::partition(partition), note).await?;
        }
        Ok(())
    }

    async fn set_stopped(&self, provider: &str, stopped: bool) -> Result<(), StoreError> {
        let set = |call: &mut Cmd| {
            call.arg(provider).arg(u8::from(stopped));
        };
        self.link.run(&scripts::STOP, &keys::rate(provider), set).await.map(|_| ())
    }

    fn partitions(&self) -> u16 {
        self.partitions
    }
}

impl RedisStore {
    async fn seal_uncounted(&self, upload: &Upload, seal: &Seal) -> Result<(), IntakeError> {
        let answer = self
            .link
            .run(&scripts::SEAL, &keys::of(upload.id), |call| {
                call.arg(upload.id.ulid())
                    .arg(upload.token)
                    .arg(seal.chunks)
                    .arg(&seal.body_hash)
                    .arg(seal.skipped);
            })
            .await?;
        went_on(&codec::text(answer)?, "sealed")
    }

    /// How many batches the account may have under way in the draft's partition: what the others
    /// leave of its limit.
    async fn places_here(&self, draft: &Draft) -> Result<Option<u64>, StoreError> {
        let Some(batches_max) = draft.batches_max else { return Ok(None) };
        let mut calls = redis::pipe();
        for partition in (0..self.partitions).filter(|other| *other != draft.id.partition()) {
            let keys = PartitionKeys(keys::partition(partition));
            calls.cmd("SCARD").arg(keys.unfinished(&draft.spec.account));
        }
        let mut elsewhere = 0;
        if self.partitions > 1 {
            for answer in self.link.ask_all(&calls).await? {
                elsewhere += codec::number(answer)?;
            }
        }
        Ok(Some(u64::from(batches_max).saturating_sub(elsewhere)))
    }

    async fn wish(
        &self,
        script: &scripts::Script,
        account: &str,
        id: BatchId,
    ) -> Result<(), WishError> {
        let answer = self
            .link
            .run(script, &keys::of(id), |call| {
                call.arg(account).arg(id.ulid());
            })
            .await?;
        granted(&codec::text(answer)?)
    }
}

fn interval_ns(rate: Rate) -> String {
    rate.interval().as_nanos().to_string()
}

fn granted(answer: &str) -> Result<(), WishError> {
    match answer {
        "ok" => Ok(()),
        "not found" => Err(WishError::NotFound),
        state => {
            Err(state.parse().map_or_else(|_| codec::unexpected(state).into(), WishError::State))
        }
    }
}

fn went_on(answer: &str, well: &str) -> Result<(), IntakeError> {
    match answer {
        "gone" => Err(IntakeError::Gone),
        answer if answer == well => Ok(()),
        other => Err(codec::unexpected(other).into()),
    }
}
