//! Reading a stream by sequence, without a hole that the leader has not vouched for.

use herald_protocol::Epoch;
use herald_runtime::jetstream::{ApiError, Batch, Stored, StreamInfo};

/// What a reader asks of the stream.
pub(super) trait Reads {
    /// The stream through its leader.
    async fn info(&self) -> Result<StreamInfo, ApiError>;
    /// Some messages at and behind `from`, from any replica.
    async fn batch(&self, from: u64) -> Result<Batch, ApiError>;
    /// The first message at or behind `from`, through the leader.
    async fn next(&self, from: u64) -> Result<Option<Stored>, ApiError>;
}

/// What a look at the stream means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The life that is known goes on.
    Same,
    /// A life begins for the reader.
    Began(Epoch),
    /// It is not the one that is known, and has no new name yet.
    Doubt,
}

/// How far a stream was read.
#[derive(Debug, Default)]
pub(super) struct Reader {
    epoch: Option<Epoch>,
    created: String,
    through: u64,
    /// When the message at `through` was stored, ns since 1970; 0 where that is not known.
    anchor_ns: u64,
}

impl Reader {
    /// Everything up to here was read.
    pub(super) const fn through(&self) -> u64 {
        self.through
    }

    /// The life that is read.
    pub(super) const fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// What the leader shows of the stream. The first life seen is read from its end, any further one from its beginning.
    pub(super) fn look(&mut self, info: &StreamInfo) -> Outcome {
        let Some(known) = self.epoch else {
            let Some(epoch) = info.epoch else { return Outcome::Doubt };
            self.begin(epoch, info);
            (self.through, self.anchor_ns) = (info.last_seq, info.last_time_ns);
            return Outcome::Began(epoch);
        };
        match info.epoch {
            Some(epoch) if epoch != known => {
                self.begin(epoch, info);
                Outcome::Began(epoch)
            }
            // A name that was lost with the metadata alone is no other life.
            _ if info.created != self.created || info.last_seq < self.through => Outcome::Doubt,
            _ => Outcome::Same,
        }
    }

    fn begin(&mut self, epoch: Epoch, info: &StreamInfo) {
        self.epoch = Some(epoch);
        self.created.clone_from(&info.created);
        (self.through, self.anchor_ns) = (info.first_seq.saturating_sub(1), 0);
    }

    /// Reads on, at least one step towards `goal`, which the leader has named. `None`: the last message that was read is
    /// another one now, so that this is another life.
    pub(super) async fn read(&mut self, reads: &impl Reads, goal: u64) -> Result<Option<Vec<Stored>>, ApiError> {
        // From the last message on, to see that it is still the same.
        let batch = reads.batch(self.through.max(1)).await?;
        let mut taken = Vec::with_capacity(batch.messages.len());
        for message in batch.messages {
            if message.sequence < self.through {
                continue;
            }
            if message.sequence == self.through {
                if self.anchor_ns != 0 && message.time_ns != self.anchor_ns {
                    return Ok(None);
                }
                continue;
            }
            while message.sequence > self.through + 1 {
                // The replica has a hole. What the leader has next is either in the hole, or proves it.
                match reads.next(self.through + 1).await? {
                    Some(found) if found.sequence < message.sequence => self.step(found, &mut taken),
                    Some(found) if found.sequence == message.sequence => break,
                    // Deleted a moment ago, or a leader from behind: the next look tells.
                    Some(_) | None => return Ok(Some(taken)),
                }
            }
            self.step(message, &mut taken);
        }
        if taken.is_empty() && self.through < goal {
            match reads.next(self.through + 1).await? {
                Some(found) => self.step(found, &mut taken),
                // Nothing is kept behind it. That counts if the leader still has come as far as it said before.
                None if reads.info().await?.last_seq >= goal => (self.through, self.anchor_ns) = (goal, 0),
                None => {}
            }
        }
        Ok(Some(taken))
    }

    fn step(&mut self, message: Stored, taken: &mut Vec<Stored>) {
        (self.through, self.anchor_ns) = (message.sequence, message.time_ns);
        taken.push(message);
    }
}

#[cfg(test)]
mod tests;
