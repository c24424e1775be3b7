-- Schema 1. Instants are whole milliseconds since the Unix epoch. What is NULL is not so: a batch
-- without `turn` is not in the ring, a chunk without `until_ms` is not held, and each such set has a
-- partial index, which holds its members and nothing else.

-- What is true of the whole store: 'turn' counts turns and gives ring places, lease tokens and the
-- order of events, 'secret' signs callbacks.
CREATE TABLE fact (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
INSERT INTO fact VALUES ('turn', 0);

-- Sums for the metrics, since the store was made; and 'suppressed:<account>', how many numbers are on the
-- account's list.
CREATE TABLE tally (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

-- Figures of a provider: messages accepted and not final, those of them in workers' hands, and
-- those that became final, by state byte.
CREATE TABLE provider (
  name TEXT PRIMARY KEY,
  open INTEGER NOT NULL DEFAULT 0, sending INTEGER NOT NULL DEFAULT 0,
  ended_1 INTEGER NOT NULL DEFAULT 0, ended_2 INTEGER NOT NULL DEFAULT 0,
  ended_3 INTEGER NOT NULL DEFAULT 0, ended_4 INTEGER NOT NULL DEFAULT 0,
  ended_5 INTEGER NOT NULL DEFAULT 0, ended_6 INTEGER NOT NULL DEFAULT 0,
  ended_7 INTEGER NOT NULL DEFAULT 0,
  awaiting INTEGER NOT NULL DEFAULT 0,    -- handed over, and waiting for their receipts
  -- How far each priority's turns have come, high, normal and low, and the last turn: see claim.rs.
  mark_1 INTEGER NOT NULL DEFAULT 0, mark_2 INTEGER NOT NULL DEFAULT 0,
  mark_3 INTEGER NOT NULL DEFAULT 0, last_mark INTEGER NOT NULL DEFAULT 0,
  stopped INTEGER NOT NULL DEFAULT 0      -- whether nothing leaves through it until it is resumed
) WITHOUT ROWID;

CREATE TABLE batch (
  batch      INTEGER PRIMARY KEY CHECK (batch < 2147483648), -- see the key of a chunk
  id         TEXT NOT NULL UNIQUE,       -- the ULID
  account    TEXT NOT NULL,
  provider   TEXT NOT NULL,
  reference  TEXT,
  priority   INTEGER NOT NULL,           -- 1 high, 2 normal, 3 low
  state      TEXT NOT NULL,              -- a batch state's word, or 'dropped'
  callback   TEXT,                       -- a callback state's word; NULL if none is wanted
  host       TEXT,                       -- where callbacks go
  wants      TEXT NOT NULL DEFAULT '',   -- 'd', 'f', 'p': dispatched, failures, progress are told
  tell_percent INTEGER, tell_every INTEGER, -- how often progress is: percent, or ms
  tell_at    INTEGER,                    -- when next: at so many final messages, or at that instant
  told       INTEGER NOT NULL DEFAULT 0, -- events so far
  unsent     INTEGER NOT NULL DEFAULT 0, -- those of them that are pending
  reports    INTEGER NOT NULL DEFAULT 0, -- those that told of progress
  failures   INTEGER NOT NULL DEFAULT 0, -- those that told of a failed message
  progress   INTEGER,                    -- the pending one that tells of progress
  keep_ms    INTEGER NOT NULL,           -- how long it is kept once it is over
  key        TEXT,                       -- the idempotency key it holds
  upload     INTEGER,                    -- the upload's token
  upload_ms  INTEGER,                    -- when the upload's lease ends, while it is open
  body_hash  BLOB,                       -- SHA-256, from the seal on
  skipped    INTEGER NOT NULL DEFAULT 0, -- recipients left out, since their numbers were there
  chunks     INTEGER NOT NULL DEFAULT 0,
  top        INTEGER NOT NULL DEFAULT 0, -- one more than the highest chunk's number
  total      INTEGER NOT NULL DEFAULT 0, -- messages
  invalid    INTEGER NOT NULL DEFAULT 0, -- messages that failed at intake
  open       INTEGER NOT NULL DEFAULT 0, -- messages not final yet, from the seal on
  sending    INTEGER NOT NULL DEFAULT 0, -- open messages in workers' hands
  ended_1    INTEGER NOT NULL DEFAULT 0, ended_2 INTEGER NOT NULL DEFAULT 0,
  ended_3    INTEGER NOT NULL DEFAULT 0, ended_4 INTEGER NOT NULL DEFAULT 0,
  ended_5    INTEGER NOT NULL DEFAULT 0, ended_6 INTEGER NOT NULL DEFAULT 0,
  ended_7    INTEGER NOT NULL DEFAULT 0,
  awaiting   INTEGER NOT NULL DEFAULT 0, -- messages that were handed over and wait for their receipts
  cursor     INTEGER NOT NULL DEFAULT 0, -- the first chunk that was never claimed
  behind     INTEGER NOT NULL DEFAULT 0, -- open messages from the cursor on
  closes     INTEGER,                    -- the state byte that open messages end with from now on
  cut        INTEGER,                    -- the first chunk that was closed by moving the cursor
  cut_ms     INTEGER,                    -- when that was
  send_ms    INTEGER,                    -- when its first message may leave
  expire_ms  INTEGER,                    -- when what has not left expires, until the batch is closed
  interval_ns INTEGER,                   -- between two messages, if the batch has a rate of its own
  clock_us   INTEGER NOT NULL DEFAULT 0, -- how far that rate's send times were handed out
  quiet      INTEGER NOT NULL DEFAULT 0, -- whether its spec has quiet hours
  once       INTEGER NOT NULL DEFAULT 0, -- whether it is sent at most once
  receipt_ms INTEGER NOT NULL,           -- how long receipts are waited for once it is handed over
  handed_ms  INTEGER,                    -- when it was, if receipts are or were waited for
  receipts_ms INTEGER,                   -- when they are waited for no more
  late_delivered INTEGER NOT NULL DEFAULT 0, late_undelivered INTEGER NOT NULL DEFAULT 0,
  revision   INTEGER NOT NULL DEFAULT 0, -- how often late receipts were told of
  amended    INTEGER,                    -- the last event that did
  started_ms INTEGER, completed_ms INTEGER,
  turn       INTEGER,                    -- its place in its account's ring
  due_ms     INTEGER,                    -- when it has rested, or its next parked chunk is due
  closing_ms INTEGER,                    -- closed then, with parked chunks left to close
  purge_ms   INTEGER,                    -- when it is erased
  watch_ms   INTEGER,                    -- when it was last looked after, from the seal to its end
  seen_open  INTEGER, seen_ms INTEGER    -- how many messages were open then, and since when
);
CREATE INDEX batch_list ON batch (account, id) WHERE state != 'dropped';
CREATE INDEX batch_under_way ON batch (account) WHERE completed_ms IS NULL AND state != 'dropped';
CREATE INDEX batch_ring ON batch (provider, priority, account, turn) WHERE turn IS NOT NULL;
CREATE INDEX batch_due ON batch (due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX batch_send ON batch (send_ms) WHERE state = 'scheduled';
CREATE INDEX batch_expire ON batch (expire_ms) WHERE expire_ms IS NOT NULL AND open > 0;
CREATE INDEX batch_receipts ON batch (receipts_ms) WHERE receipts_ms IS NOT NULL;
CREATE INDEX batch_upload ON batch (upload_ms) WHERE upload_ms IS NOT NULL;
CREATE INDEX batch_closing ON batch (closing_ms) WHERE closing_ms IS NOT NULL;
CREATE INDEX batch_watch ON batch (watch_ms) WHERE watch_ms IS NOT NULL;
CREATE INDEX batch_purge ON batch (purge_ms) WHERE purge_ms IS NOT NULL;

-- What the client asked for: apart, since the row above changes with every settlement.
CREATE TABLE spec (batch INTEGER PRIMARY KEY, spec BLOB NOT NULL);

-- How many recipients an account has had in the day that ends then.
CREATE TABLE day (
  account TEXT PRIMARY KEY, recipients INTEGER NOT NULL, ends_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- Numbers that get nothing from an account, as their digits.
CREATE TABLE suppression (
  account TEXT NOT NULL, number INTEGER NOT NULL,
  PRIMARY KEY (account, number)
) WITHOUT ROWID;

CREATE TABLE idempotency (
  account TEXT NOT NULL, key TEXT NOT NULL, batch INTEGER NOT NULL,
  PRIMARY KEY (account, key)
) WITHOUT ROWID;

-- The rings of a provider, one a priority: accounts that have batches in their rings.
CREATE TABLE ring (
  provider TEXT NOT NULL, priority INTEGER NOT NULL, account TEXT NOT NULL, turn INTEGER NOT NULL,
  PRIMARY KEY (provider, priority, account)
) WITHOUT ROWID;
CREATE INDEX ring_turn ON ring (provider, priority, turn);

-- A chunk's key is its batch's times 2^32, plus its own number: the chunks of a batch lie side by
-- side, and what belongs to a chunk is found by one number.
CREATE TABLE chunk (
  chunk    INTEGER PRIMARY KEY,
  first    INTEGER NOT NULL,             -- the batch-wide index of its first message
  states   BLOB NOT NULL,                -- one byte a message, 0 for open
  due_ms   INTEGER,                      -- parked or returned: when it may be claimed
  until_ms INTEGER,                      -- held: when the lease ends
  -- The last lease. It stays when the lease has ended, so that a repeated settlement is known.
  turn INTEGER, nonce INTEGER, sequence INTEGER, done INTEGER,
  past BLOB                              -- what lost leases left behind; NULL for nothing
);
-- Parked chunks, and held ones, of each batch.
CREATE INDEX chunk_due ON chunk (chunk >> 32, due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX chunk_until ON chunk (until_ms) WHERE until_ms IS NOT NULL;
CREATE INDEX chunk_nonce ON chunk (nonce) WHERE until_ms IS NOT NULL;

-- Packed recipients: apart, since they never change.
CREATE TABLE recipients (chunk INTEGER PRIMARY KEY, recipients BLOB NOT NULL);

-- Records of tries, in the order of their settlements.
CREATE TABLE log (log INTEGER PRIMARY KEY, chunk INTEGER NOT NULL, records BLOB NOT NULL);
CREATE INDEX log_chunk ON log (chunk);

-- Receipts, in the order in which they came: place, two bytes, and record.
CREATE TABLE receipt (receipt INTEGER PRIMARY KEY, chunk INTEGER NOT NULL, records BLOB NOT NULL);
CREATE INDEX receipt_chunk ON receipt (chunk);

-- What is known of messages that wait for another try.
CREATE TABLE waiting (
  chunk INTEGER NOT NULL, place INTEGER NOT NULL, known BLOB NOT NULL,
  PRIMARY KEY (chunk, place)
) WITHOUT ROWID;

-- Events, in the order of their creation. A pending one waits until `due_ms` (0: for nothing), or an
-- attempt is under way, whose lease ends at `until_ms`; an ended one has neither.
CREATE TABLE event (
  event    INTEGER PRIMARY KEY,
  id       TEXT NOT NULL UNIQUE,         -- the ULID
  batch    INTEGER NOT NULL,
  account  TEXT NOT NULL,
  host     TEXT NOT NULL,
  kind     TEXT NOT NULL, about TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  at_ms    INTEGER NOT NULL,
  since_ms INTEGER NOT NULL,             -- when it was created or last replayed
  base     INTEGER NOT NULL DEFAULT 0,   -- the attempts before that
  number   INTEGER NOT NULL DEFAULT 0,   -- of the last attempt
  recorded INTEGER NOT NULL DEFAULT 0,   -- the last attempt whose end is known
  state    TEXT NOT NULL DEFAULT 'pending',
  ended_ms INTEGER, due_ms INTEGER, until_ms INTEGER,
  body     TEXT
);
CREATE INDEX event_batch ON event (batch);
CREATE INDEX event_feed ON event (account, event);
CREATE INDEX event_due ON event (host, due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX event_until ON event (host, until_ms) WHERE until_ms IS NOT NULL;

-- The last 20 attempts of each event. `came_to` is JSON, NULL until the end is known.
CREATE TABLE attempt (
  event INTEGER NOT NULL, number INTEGER NOT NULL, at_ms INTEGER NOT NULL, came_to TEXT,
  PRIMARY KEY (event, number)
) WITHOUT ROWID;

-- Hosts of receivers with pending events: when to look for one to take (it may be too early, never
-- too late), attempts without an answer in a row, and until when the host is left alone.
CREATE TABLE host (
  host TEXT PRIMARY KEY, look_ms INTEGER NOT NULL,
  silences INTEGER NOT NULL DEFAULT 0, until_ms INTEGER
) WITHOUT ROWID;
CREATE INDEX host_look ON host (look_ms);

-- Hosts that want an account's callbacks.
CREATE TABLE welcome (
  account TEXT NOT NULL, host TEXT NOT NULL, until_ms INTEGER NOT NULL,
  PRIMARY KEY (account, host)
) WITHOUT ROWID;

-- Orders to deliver ended events again, and how far each was carried out.
CREATE TABLE replay (
  nonce INTEGER PRIMARY KEY, account TEXT NOT NULL, state TEXT NOT NULL, since_ms INTEGER NOT NULL,
  host TEXT, at_ms INTEGER NOT NULL, place INTEGER NOT NULL DEFAULT 0, done_ms INTEGER
);
CREATE INDEX replay_open ON replay (account, at_ms) WHERE done_ms IS NULL;
CREATE INDEX replay_done ON replay (done_ms) WHERE done_ms IS NOT NULL;

-- Accounts with orders that are not carried out: they take turns.
CREATE TABLE replaying (account TEXT PRIMARY KEY, turn INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX replaying_turn ON replaying (turn);
