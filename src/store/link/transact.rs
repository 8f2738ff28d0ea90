//! A transaction whose last command is a script that judges it: many native writes, then the verdict, in one step.
//!
//! The script travels as text. By its digest a server that does not know it would refuse it inside of EXEC, where
//! nothing else is stopped: the writes would stay and the verdict be missing.

use redis::{Cmd, Pipeline, RedisError, Value};

use super::retry::Retry;
use super::{Failure, Link, Told, judge};
use crate::store::error::StoreError;

/// Commands between MULTI and EXEC, of which the last judges the others. Sent verbatim as often as needed.
pub(in crate::store) struct Transaction {
    /// MULTI and EXEC stand in it as commands: what the crate sends by itself hides why one was refused.
    pipeline: Pipeline,
}

impl Transaction {
    /// One with room for so many writes.
    pub(in crate::store) fn with_capacity(writes: usize) -> Self {
        let mut pipeline = Pipeline::with_capacity(writes + 3);
        pipeline.add_command(redis::cmd("MULTI"));
        Self { pipeline }
    }

    /// One more write.
    pub(in crate::store) fn write(&mut self, cmd: Cmd) {
        self.pipeline.add_command(cmd);
    }

    /// The script that judges; the last command.
    pub(in crate::store) fn close(mut self, script: Cmd) -> Self {
        self.pipeline.add_command(script);
        self.pipeline.add_command(redis::cmd("EXEC"));
        self
    }
}

/// What became of a transaction.
pub(in crate::store) enum Transacted {
    /// The script has answered.
    Judged(Told),
    /// The writes were done and the script was not run, or failed: the answers to the writes, in their order, and what
    /// was the matter. Only a right that was withdrawn or a disk that failed in that very moment can do this.
    Stranded {
        /// Of the writes.
        answers: Vec<Value>,
        /// `None` if sending the whole again may cure it.
        cause: Option<StoreError>,
    },
}

enum Verdict {
    Answer(Value),
    Stranded(Vec<Value>, RedisError),
}

impl Link {
    /// Sends a transaction; sent again, verbatim, until there is an answer.
    pub(in crate::store) async fn transact(
        &self,
        name: &'static str,
        transaction: &Transaction,
    ) -> Result<Transacted, StoreError> {
        let mut retry = Retry::new(&self.inner);
        loop {
            match self.transact_once(name, transaction).await {
                Ok((Verdict::Answer(value), home)) => {
                    return Ok(Transacted::Judged(Told { value, resent: retry.tries > 0, home }));
                }
                Ok((Verdict::Stranded(answers, error), _)) => {
                    let cause = match judge(&error, name) {
                        Failure::Final(cause) => Some(cause),
                        Failure::Passing { .. } | Failure::NoScript => None,
                    };
                    return Ok(Transacted::Stranded { answers, cause });
                }
                Err(failure) => retry.after(failure).await?,
            }
        }
    }

    async fn transact_once(&self, name: &str, transaction: &Transaction) -> Result<(Verdict, u64), Failure> {
        let (mut connection, generation, home) = self.connection().await?;
        if !self.may_transact(generation).await {
            // Where MULTI alone is refused what follows would be done at once, and seen before it is judged.
            let empty = Transaction::with_capacity(0).close(redis::cmd("PING")).pipeline;
            let tried = async { first_fault(connection.send_packed_commands(&empty, 0, empty.len()).await?) };
            self.answer((generation, home), name, tried).await?;
            self.remember_may_transact(generation).await;
        }
        let pipeline = &transaction.pipeline;
        let answers = connection.send_packed_commands(pipeline, 0, pipeline.len());
        let answers = self.answer((generation, home), name, answers).await?;
        let verdict = match verdict(answers) {
            Ok(verdict) => verdict,
            Err(error) => return Err(self.failed(&error, (generation, home), name).await),
        };
        self.inner.health.set_down(false, &self.inner.options.address(), "");
        Ok((verdict, home))
    }

    async fn may_transact(&self, generation: u64) -> bool {
        let slot = self.inner.slot.lock().await;
        slot.generation == generation && slot.may_transact
    }

    async fn remember_may_transact(&self, generation: u64) {
        let mut slot = self.inner.slot.lock().await;
        slot.may_transact |= slot.generation == generation;
    }
}

fn first_fault(answers: Vec<Value>) -> Result<(), RedisError> {
    let fault = answers.into_iter().find_map(|answer| match answer {
        Value::ServerError(error) => Some(RedisError::from(error)),
        _ => None,
    });
    fault.map_or(Ok(()), Err)
}

/// What the answers to MULTI, the writes, the script and EXEC say.
fn verdict(mut answers: Vec<Value>) -> Result<Verdict, RedisError> {
    let mut answers = match answers.pop() {
        Some(Value::Array(answers)) => answers,
        // Refused as a whole: one of the commands was, and says why; else EXEC itself.
        Some(exec) => {
            answers.push(exec);
            first_fault(answers)?;
            return Err(unreadable());
        }
        None => return Err(unreadable()),
    };
    match answers.pop() {
        Some(Value::ServerError(error)) if answers.iter().any(|answer| !matches!(answer, Value::ServerError(_))) => {
            Ok(Verdict::Stranded(answers, error.into()))
        }
        Some(Value::ServerError(error)) => Err(error.into()),
        Some(value) => Ok(Verdict::Answer(value)),
        None => Err(unreadable()),
    }
}

fn unreadable() -> RedisError {
    RedisError::from((redis::ErrorKind::UnexpectedReturnType, "the answer to a transaction cannot be read"))
}
