//! A transaction whose last command is a script that judges it: many native writes, then the verdict, in one step.
//!
//! The script travels as text. By its digest a server that does not know it would refuse it inside of EXEC, where
//! nothing else is stopped: the writes would stay and the verdict be missing.

use redis::{RedisError, Value};

use super::raw::Raw;
use super::retry::Retry;
use super::{Failure, Link, Told, judge};
use crate::store::error::StoreError;
use crate::wire::{Line, Request, WireError, items};

/// Commands between MULTI and EXEC, of which the last judges the others. Sent verbatim as often as needed.
pub(in crate::store) struct Transaction<'a> {
    /// MULTI, and the writes.
    writes: &'a Request,
    /// The script that judges, and EXEC.
    verdict: Request,
}

impl<'a> Transaction<'a> {
    /// The beginning of what [`Transaction::new`] takes, with room for so many bytes.
    pub(in crate::store) fn begin(bytes: usize) -> Request {
        let mut request = Request::with_capacity(bytes);
        request.command(&[b"MULTI"]);
        request
    }

    /// Writes behind a [`begin`](Transaction::begin), and the script that judges them.
    pub(in crate::store) fn new(writes: &'a Request, mut script: Request) -> Self {
        script.command(&[b"EXEC"]);
        Self { writes, verdict: script }
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
        transaction: &Transaction<'_>,
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

    async fn transact_once(&self, name: &str, transaction: &Transaction<'_>) -> Result<(Verdict, u64), Failure> {
        let mut raw = self.raw().await?;
        if !raw.may_transact {
            // Where MULTI alone is refused what follows would be done at once, and seen before it is judged.
            let (writes, script) = (Transaction::begin(0), Request::of(&[b"PING"]));
            self.exchange(&mut raw, name, &Transaction::new(&writes, script)).await?;
            raw.may_transact = true;
        }
        let verdict = self.exchange(&mut raw, name, transaction).await?;
        let home = raw.at.1;
        self.keep(raw);
        self.inner.health.set_down(false, &self.inner.options.address(), "");
        Ok((verdict, home))
    }

    async fn exchange(&self, raw: &mut Raw, name: &str, transaction: &Transaction<'_>) -> Result<Verdict, Failure> {
        let at = raw.at;
        let answer = self.while_at_home(at, exchange(&mut raw.line, transaction)).await?;
        match answer {
            Ok(Ok(verdict)) => Ok(verdict),
            Ok(Err(error)) => Err(self.failed(&error, at, name).await),
            Err(error) => Err(self.raw_failed(error, at, name).await),
        }
    }
}

async fn exchange(line: &mut Line, transaction: &Transaction<'_>) -> Result<Result<Verdict, RedisError>, WireError> {
    line.send(transaction.writes).await?;
    line.send(&transaction.verdict).await?;
    let refusal = line.queued(transaction.writes.answers + transaction.verdict.answers - 1).await?;
    let judged = verdict(refusal, line.bytes().await?);
    judged.map_err(|reason| line.nonsense(&reason))
}

/// What the first refusal to queue a command, if there was one, and the answer to EXEC say.
fn verdict(refusal: Option<String>, exec: &[u8]) -> Result<Result<Verdict, RedisError>, String> {
    let Some(answers) = items(exec)? else {
        // Refused as a whole: one of the commands was, and says why; else EXEC itself.
        let refused = match refusal {
            Some(words) => value(format!("-{words}\r\n").as_bytes())?,
            None => value(exec)?,
        };
        return match refused {
            Value::ServerError(error) => Ok(Err(error.into())),
            _ => Err("the answer to a transaction is no list".to_owned()),
        };
    };
    let Some((script, writes)) = answers.split_last() else { return Err("a transaction without answers".to_owned()) };
    match value(script)? {
        Value::ServerError(error) if writes.iter().any(|answer| !answer.starts_with(b"-")) => {
            let writes = writes.iter().map(|answer| value(answer)).collect::<Result<_, _>>()?;
            Ok(Ok(Verdict::Stranded(writes, error.into())))
        }
        Value::ServerError(error) => Ok(Err(error.into())),
        answer => Ok(Ok(Verdict::Answer(answer))),
    }
}

/// A whole reply as the library reads it.
fn value(reply: &[u8]) -> Result<Value, String> {
    redis::parse_redis_value(reply).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(refusal: Option<&str>, exec: &str) -> String {
        match verdict(refusal.map(str::to_owned), exec.as_bytes()) {
            Ok(Ok(Verdict::Answer(value))) => format!("answer {value:?}"),
            Ok(Ok(Verdict::Stranded(answers, error))) => format!("{} stranded: {:?}", answers.len(), error.code()),
            Ok(Err(error)) => format!("refused: {:?} {:?}", error.code(), error.detail()),
            Err(reason) => reason,
        }
    }

    #[test]
    fn the_last_answer_judges_those_before_it() {
        assert_eq!(told(None, "*2\r\n$3\r\n1-1\r\n*1\r\n$2\r\nOK\r\n"), "answer array([bulk-string('\"OK\"')])");
        assert_eq!(told(None, "*2\r\n$3\r\n1-1\r\n-NOPERM no\r\n"), "1 stranded: Some(\"NOPERM\")");
        assert_eq!(told(None, "*2\r\n-WRONGTYPE x\r\n-ERR no\r\n"), "refused: Some(\"ERR\") Some(\"no\")");
        assert_eq!(told(Some("OOM no memory"), "-EXECABORT x\r\n"), "refused: Some(\"OOM\") Some(\"no memory\")");
        assert_eq!(told(None, "-EXECABORT x\r\n"), "refused: Some(\"EXECABORT\") Some(\"x\")");
        for nonsense in ["*-1\r\n", "*0\r\n", "+OK\r\n", "*2\r\n:1\r\n"] {
            assert!(verdict(None, nonsense.as_bytes()).is_err(), "{nonsense}");
        }
    }
}
