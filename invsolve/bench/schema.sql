BEGIN IMMEDIATE;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE contents (hash TEXT PRIMARY KEY, content TEXT);
CREATE TABLE units (
    place INTEGER PRIMARY KEY, hash TEXT, measurement TEXT, item TEXT, task TEXT, solver TEXT, seed INTEGER);
CREATE INDEX units_by_hash ON units (hash);
CREATE TABLE outcomes (
    unit TEXT PRIMARY KEY, status TEXT, error TEXT, traceback TEXT, forwards REAL, backwards REAL, seconds REAL,
    memory INTEGER, started REAL, finished REAL, worker TEXT, environment TEXT, digest TEXT, stamp TEXT);
CREATE TABLE measurements (hash TEXT PRIMARY KEY, digest TEXT, stamp TEXT);
CREATE TABLE earlier (unit TEXT, record TEXT);
CREATE TABLE environments (hash TEXT PRIMARY KEY, content TEXT);
CREATE TABLE scores (
    unit TEXT, metric TEXT, implementation TEXT, value REAL, of_mean REAL, each TEXT, PRIMARY KEY (unit, metric));
CREATE TABLE set_scores (
    task TEXT, solver TEXT, metric TEXT, implementation TEXT, value REAL, count INTEGER, of TEXT,
    PRIMARY KEY (task, solver, metric));
CREATE TABLE notes (metric TEXT PRIMARY KEY, note TEXT);
PRAGMA user_version = 2;
COMMIT;
