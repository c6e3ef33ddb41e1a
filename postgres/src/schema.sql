-- The log of OpenExec in one schema. `openexec-postgres init` runs this in one transaction, as the schema's owner.
-- Whoever serves may read, and call functions; everything that writes is one of them.

CREATE SCHEMA openexec;

-- Record number n, from 0: a line of docs/store.md, without its newline.
CREATE TABLE openexec.rec (n bigint PRIMARY KEY, line text NOT NULL);

-- A batch of records that took effect together. `size` counts all records so far, `root` is over them; of an empty
-- `frontier` there is none: it holds the roots of the perfect subtrees, largest first. `jobs` are open after it, the
-- `oldest` with that claim.
CREATE TABLE openexec.batch (
  size bigint PRIMARY KEY,
  batch bigint NOT NULL UNIQUE,
  root bytea NOT NULL,
  frontier bytea[] NOT NULL,
  session bigint NOT NULL,
  seq bigint NOT NULL,
  jobs bigint NOT NULL DEFAULT 0,
  oldest bigint,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  UNIQUE (session, seq)
);

-- What there may be only once, and where it is: k is the first half of a hash over what it is and its value.
CREATE TABLE openexec.key (k bytea PRIMARY KEY, n bigint NOT NULL);

-- The root of the perfect subtree number `ix` of 2^`level` leaves, from level 8 on: a proof needs some of them.
CREATE TABLE openexec.tree (level int, ix bigint, hash bytea NOT NULL, PRIMARY KEY (level, ix));

-- The claims that left a job of which nobody has said for good what became of it.
CREATE TABLE openexec.open_job (n bigint PRIMARY KEY);

-- What the first `size` records mean, so that whoever takes over reads those alone that came later. One row, or none.
CREATE TABLE openexec.snapshot (size bigint PRIMARY KEY, text text NOT NULL);

-- Who may write: the newest session alone, of one process. `veto` grows with every word of an operator.
CREATE TABLE openexec.node (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  session bigint NOT NULL DEFAULT 0,
  holder bytea,
  veto bigint NOT NULL DEFAULT 0
);
INSERT INTO openexec.node DEFAULT VALUES;

-- Locked by whoever is about to write, and never changed: an older snapshot costs nothing.
CREATE TABLE openexec.mutex (one boolean PRIMARY KEY DEFAULT true CHECK (one));
INSERT INTO openexec.mutex DEFAULT VALUES;

-- What an operator left: FROZEN, UNFROZEN and REQUEST, as the files of these names.
CREATE TABLE openexec.note (name text PRIMARY KEY, text text NOT NULL, left_at timestamptz NOT NULL);

-- A job that an execution left, in the same transaction as its claim and its receipt. `n` is its claim's number. The row
-- goes once the log says for good what became of the job: the log has all of it.
CREATE TABLE openexec.job (
  id text PRIMARY KEY,
  n bigint NOT NULL UNIQUE,
  queue text NOT NULL,
  job text NOT NULL,
  taken_at timestamptz,
  taken_by name,
  -- An operator gave it back: a worker before may have performed it.
  again boolean NOT NULL DEFAULT false
);
CREATE INDEX ON openexec.job (queue, n) WHERE taken_at IS NULL;

-- What a worker says became of it, until the node has recorded that; `ignored` is why it never will be. The row of the
-- job may be gone: a worker whose answer was lost says it again.
CREATE TABLE openexec.report (
  id text PRIMARY KEY,
  queue text NOT NULL,
  outcome text NOT NULL,
  result text NOT NULL,
  at timestamptz NOT NULL,
  ignored text
);
CREATE INDEX ON openexec.report (at) WHERE ignored IS NULL;

-- What every function that writes begins with: these hold until its transaction is over, so also while the commit waits
-- for its standby, whatever the session, its role, the database or a file is set to. A wait that was cancelled is told by
-- a WARNING alone, and a lock is no use to whoever reads what was true before it.
CREATE FUNCTION openexec.begins() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, openexec, pg_temp AS $$
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'this is done in READ COMMITTED alone: set default_transaction_isolation';
  END IF;
  PERFORM set_config('client_min_messages', 'warning', true);
  IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
END $$;

-- Begins a session: a committed write, which waits for every append that an older session has on its way, and makes
-- powerless what that sends later. Whoever takes over names the session that it saw; null where another has taken over.
CREATE FUNCTION openexec.fence(p_holder bytea, p_over bigint, OUT session bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, openexec, pg_temp AS $$
BEGIN
  PERFORM begins();
  PERFORM set_config('lock_timeout', '3000', true);
  UPDATE node SET session = node.session + 1, holder = p_holder
    WHERE node.one AND (node.session = p_over OR p_over IS NULL AND node.holder = p_holder) RETURNING node.session INTO session;
END $$;

-- Adds record lines, and the jobs that are left with them, together or not at all. `status` is 'ok', or why nothing was
-- added. A job has the line of its claim, and that of its receipt, which says the job's hash.
CREATE FUNCTION openexec.append(
  p_session bigint, p_seq bigint, p_veto bigint, p_may_lose boolean,
  p_size bigint, p_root bytea, p_lines text[], p_keys bytea[], p_lines_of_keys int[], p_new_root bytea,
  p_opens bigint[], p_closes bigint[], p_snapshot text,
  p_jobs text[], p_ids text[], p_queues text[], p_claims int[], p_receipts int[],
  OUT status text, OUT jobs bigint, OUT oldest bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, openexec, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  h record; f bytea[]; s bigint; x bytea; l text; b int; r bytea; v bigint; d bigint;
  levels int[]; ixs bigint[]; hashes bytea[];
BEGIN
  PERFORM begins();
  PERFORM set_config('lock_timeout', '3000', true);
  IF NOT p_may_lose AND (current_setting('synchronous_standby_names') = ''
      OR current_setting('synchronous_standby_names') LIKE '%*%') THEN
    status := 'asynchronous'; RETURN;
  END IF;
  -- A statement each: one that locks and reads could read what was true before it had the lock.
  PERFORM 1 FROM mutex WHERE one FOR UPDATE;
  SELECT node.veto INTO v FROM node WHERE node.one AND node.session = p_session FOR SHARE;
  IF NOT FOUND THEN status := 'fenced'; RETURN; END IF;
  IF v <> p_veto THEN status := 'veto'; RETURN; END IF;
  SELECT batch.size, batch.batch, batch.root, batch.frontier, batch.jobs, batch.oldest INTO h FROM batch ORDER BY batch.size DESC LIMIT 1;
  IF h.size <> p_size OR h.root <> p_root THEN status := 'behind'; RETURN; END IF;
  IF EXISTS (SELECT 1 FROM key WHERE k = ANY (p_keys)) THEN status := 'conflict'; RETURN; END IF;
  FOR i IN 1 .. cardinality(p_jobs) LOOP
    IF position('"' || encode(sha256(convert_to(p_jobs[i], 'UTF8')), 'hex') || '"' IN p_lines[p_receipts[i] + 1]) = 0 THEN
      status := 'job'; RETURN;
    END IF;
  END LOOP;
  s := h.size; f := h.frontier;
  FOREACH l IN ARRAY p_lines LOOP
    x := sha256(decode('00', 'hex') || convert_to(l, 'UTF8')); b := 0;
    WHILE (s >> b) & 1 = 1 LOOP
      x := sha256(decode('01', 'hex') || f[cardinality(f)] || x);
      f := f[1:cardinality(f) - 1]; b := b + 1;
      IF b >= 8 THEN levels := levels || b; ixs := ixs || (s >> b); hashes := hashes || x; END IF;
    END LOOP;
    f := f || x; s := s + 1;
  END LOOP;
  r := f[cardinality(f)];
  FOR i IN REVERSE cardinality(f) - 1 .. 1 LOOP r := sha256(decode('01', 'hex') || f[i] || r); END LOOP;
  IF r <> p_new_root THEN status := 'root'; RETURN; END IF;
  INSERT INTO rec SELECT h.size + o - 1, t FROM unnest(p_lines) WITH ORDINALITY u(t, o);
  INSERT INTO key SELECT a, h.size + o FROM unnest(p_keys, p_lines_of_keys) u(a, o);
  IF levels IS NOT NULL THEN INSERT INTO tree SELECT * FROM unnest(levels, ixs, hashes); END IF;
  jobs := h.jobs; oldest := h.oldest;
  IF cardinality(p_opens) + cardinality(p_closes) > 0 THEN
    INSERT INTO open_job SELECT unnest(p_opens);
    GET DIAGNOSTICS d = ROW_COUNT; jobs := jobs + d;
    DELETE FROM open_job WHERE n = ANY (p_closes);
    GET DIAGNOSTICS d = ROW_COUNT; jobs := jobs - d;
    -- Where a worker has a word of it, `reported` does that.
    DELETE FROM job WHERE job.n IN (SELECT w.n FROM job w WHERE w.n = ANY (p_closes)
      AND NOT EXISTS (SELECT 1 FROM report WHERE report.id = w.id) FOR UPDATE SKIP LOCKED);
    -- From there on: the rows before it are gone, and each that is still in the index would be looked at.
    SELECT min(n) INTO oldest FROM open_job WHERE n >= LEAST(h.oldest, (SELECT min(o) FROM unnest(p_opens) o));
  END IF;
  IF cardinality(p_ids) > 0 THEN
    INSERT INTO job (id, n, queue, job)
      SELECT a, h.size + o, q, j FROM unnest(p_ids, p_claims, p_queues, p_jobs) u(a, o, q, j);
  END IF;
  IF p_snapshot IS NOT NULL THEN
    DELETE FROM snapshot WHERE snapshot.size <= s;
    INSERT INTO snapshot VALUES (s, p_snapshot);
  END IF;
  INSERT INTO batch (size, batch, root, frontier, session, seq, jobs, oldest)
    VALUES (s, h.batch + 1, r, f, p_session, p_seq, jobs, oldest);
  status := 'ok';
END $$;

-- What has these keys: the records, and what is known by each record's number (its receipt or end, its completions).
-- Where several are asked for, a long line is left out, for memory's sake.
CREATE FUNCTION openexec.find(p_keys bytea[], OUT k bytea, OUT kind text, OUT n bigint, OUT line text) RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, openexec, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  ks bytea[]; ns bigint[]; most int := CASE WHEN cardinality(p_keys) > 1 THEN 8192 ELSE 2147483647 END;
BEGIN
  SELECT array_agg(key.k), array_agg(key.n) INTO ks, ns FROM key WHERE key.k = ANY (p_keys);
  IF ks IS NULL THEN RETURN; END IF;
  RETURN QUERY SELECT w.k, w.kind, w.n, CASE WHEN octet_length(rec.line) <= most THEN rec.line END
    FROM (SELECT f.k, '' AS kind, f.n FROM unnest(ks, ns) f(k, n)
      UNION ALL SELECT f.k, c, key.n FROM unnest(ks, ns) f(k, n) CROSS JOIN unnest('{r,c,C,e}'::text[]) c
        JOIN key ON key.k = substring(sha256(convert_to(c, 'UTF8') || int8send(f.n)) FOR 16)) w
    JOIN rec ON rec.n = w.n;
END $$;

-- How it stands: who may write, the newest batch, what operators left, and what the server is set to.
CREATE FUNCTION openexec.look(
  OUT session bigint, OUT veto bigint, OUT size bigint, OUT root bytea, OUT last_session bigint, OUT last_seq bigint,
  OUT names text[], OUT texts text[], OUT left_at bigint[], OUT now bigint, OUT standby_names text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, openexec, pg_temp AS $$
BEGIN
  SELECT node.session, node.veto INTO session, veto FROM node WHERE node.one;
  SELECT batch.size, batch.root, batch.session, batch.seq INTO size, root, last_session, last_seq
    FROM batch ORDER BY batch.size DESC LIMIT 1;
  SELECT coalesce(array_agg(note.name), '{}'), coalesce(array_agg(note.text), '{}'),
      coalesce(array_agg((extract(epoch FROM note.left_at) * 1000000)::bigint), '{}')
    INTO names, texts, left_at FROM note
    WHERE note.name <> 'REQUEST' OR note.left_at > clock_timestamp() - interval '1 minute';
  now := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
  standby_names := current_setting('synchronous_standby_names');
END $$;

-- Takes away what an operator left and the node has recorded; false where it is another by now.
CREATE FUNCTION openexec.remove_note(p_session bigint, p_name text, p_left_at bigint, OUT removed boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, openexec, pg_temp AS $$
BEGIN
  PERFORM begins();
  PERFORM set_config('lock_timeout', '3000', true);
  PERFORM 1 FROM mutex WHERE one FOR UPDATE;
  PERFORM 1 FROM node WHERE node.one AND node.session = p_session FOR SHARE;
  removed := FOUND;
  IF removed THEN
    DELETE FROM note WHERE name = p_name AND (extract(epoch FROM left_at) * 1000000)::bigint = p_left_at;
    removed := FOUND;
  END IF;
END $$;

-- An operator stops everything. Once this is committed no claim is, until `unfreeze`.
CREATE FUNCTION openexec.freeze(p_reason text, OUT was_frozen boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, openexec, pg_temp AS $$
BEGIN
  PERFORM begins();
  PERFORM 1 FROM mutex WHERE one FOR UPDATE;
  INSERT INTO note VALUES ('FROZEN', left(p_reason, 400), clock_timestamp()) ON CONFLICT DO NOTHING;
  was_frozen := NOT FOUND;
  UPDATE node SET veto = veto + 1 WHERE one;
END $$;

-- The stop is over: its note stays as UNFROZEN until the node has recorded both.
CREATE FUNCTION openexec.unfreeze(OUT was_frozen boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, openexec, pg_temp AS $$
DECLARE
  why text;
BEGIN
  PERFORM begins();
  -- A stop may come late. What ends it may not: nobody waits for it any more.
  PERFORM set_config('lock_timeout', '3000', true);
  PERFORM 1 FROM mutex WHERE one FOR UPDATE;
  DELETE FROM note WHERE name = 'FROZEN' RETURNING text INTO why;
  was_frozen := FOUND;
  IF was_frozen THEN
    INSERT INTO note VALUES ('UNFROZEN', why, clock_timestamp())
      ON CONFLICT (name) DO UPDATE SET text = excluded.text, left_at = excluded.left_at;
    UPDATE node SET veto = veto + 1 WHERE one;
  END IF;
END $$;

-- An operator asks the active node for records: when that was left, or null while another request waits. One is for a
-- minute: then no node is shown it any more, and another takes its place. The same text is the same request.
CREATE FUNCTION openexec.request(p_text text, OUT left_at bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, openexec, pg_temp AS $$
BEGIN
  IF p_text IS NULL OR octet_length(p_text) > 256000 THEN
    RAISE EXCEPTION 'a request is at most 256,000 bytes';
  END IF;
  PERFORM begins();
  PERFORM set_config('lock_timeout', '3000', true);
  PERFORM 1 FROM mutex WHERE one FOR UPDATE;
  DELETE FROM note WHERE note.name = 'REQUEST' AND note.left_at <= clock_timestamp() - interval '1 minute';
  -- A node that has seen it already writes nothing of it any more.
  IF FOUND THEN UPDATE node SET veto = veto + 1 WHERE one; END IF;
  INSERT INTO note VALUES ('REQUEST', p_text, clock_timestamp()) ON CONFLICT DO NOTHING;
  SELECT (extract(epoch FROM note.left_at) * 1000000)::bigint INTO left_at
    FROM note WHERE note.name = 'REQUEST' AND note.text = p_text;
END $$;

-- An operator takes a request back. Where `removed` is true nothing of it is written from then on: what was, is there.
CREATE FUNCTION openexec.take_back(p_left_at bigint, OUT removed boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, openexec, pg_temp AS $$
BEGIN
  PERFORM begins();
  PERFORM set_config('lock_timeout', '3000', true);
  PERFORM 1 FROM mutex WHERE one FOR UPDATE;
  DELETE FROM note WHERE name = 'REQUEST' AND (extract(epoch FROM left_at) * 1000000)::bigint = p_left_at;
  removed := FOUND;
  IF removed THEN UPDATE node SET veto = veto + 1 WHERE one; END IF;
END $$;

-- Whether the log says for good what became of the job with this id: by the key of that record.
CREATE FUNCTION openexec.ended(p_id text) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, openexec, pg_temp AS $$
BEGIN
  RETURN EXISTS (SELECT 1 FROM key a JOIN key b ON b.k = substring(sha256('C'::bytea || int8send(a.n)) FOR 16)
    WHERE a.k = substring(sha256('i'::bytea || decode(substring(p_id FROM '^[0-9a-f]{64}$'), 'hex')) FOR 16));
END $$;

-- A worker takes the oldest job that waits in a queue; no row where there is none. It is handed out once: whoever took
-- it has it once this is committed without a warning. `again` says that it was handed out before.
CREATE FUNCTION openexec.take(p_queue text, OUT id text, OUT job text, OUT again boolean) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, openexec, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
  at bigint;
BEGIN
  PERFORM begins();
  PERFORM set_config('lock_timeout', '3000', true);
  LOOP
    SELECT w.id, w.job, w.again, w.n INTO id, job, again, at FROM job w WHERE w.queue = p_queue AND w.taken_at IS NULL
      ORDER BY w.n LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN RETURN; END IF;
    IF EXISTS (SELECT 1 FROM open_job WHERE n = at) THEN
      UPDATE job w SET taken_at = clock_timestamp(), taken_by = session_user WHERE w.n = at;
      RETURN NEXT; RETURN;
    END IF;
    -- An operator has said what became of it, while another worker looked at it.
    DELETE FROM job w WHERE w.n = at;
  END LOOP;
END $$;

-- A worker says what became of a job that it took: `executed`, `failed` or `indeterminate`, and an object as JSON. One
-- whose end is recorded may be reported again: the node compares.
CREATE FUNCTION openexec.complete(p_queue text, p_id text, p_outcome text, p_result text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, openexec, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
  PERFORM begins();
  PERFORM set_config('lock_timeout', '3000', true);
  IF p_outcome IS NULL OR p_outcome NOT IN ('executed', 'failed', 'indeterminate') THEN
    RAISE EXCEPTION 'the outcome is executed, failed or indeterminate';
  END IF;
  IF p_result IS NULL OR octet_length(p_result) > 262144 OR json_typeof(p_result::json) <> 'object' THEN
    RAISE EXCEPTION 'the result is a JSON object of at most 256 KiB';
  END IF;
  PERFORM 1 FROM job WHERE job.id = p_id AND job.queue = p_queue AND job.taken_at IS NOT NULL FOR UPDATE;
  IF NOT FOUND AND NOT ended(p_id) THEN RAISE EXCEPTION 'no job with this id was taken from this queue'; END IF;
  INSERT INTO report VALUES (p_id, p_queue, p_outcome, p_result, clock_timestamp())
    ON CONFLICT (id) DO UPDATE
      SET queue = p_queue, outcome = p_outcome, result = p_result, at = clock_timestamp(), ignored = NULL
      WHERE report.ignored IS NOT NULL OR (report.outcome, report.result) = (p_outcome, p_result);
  IF NOT FOUND THEN RAISE EXCEPTION 'another report of this job waits to be recorded'; END IF;
END $$;

-- The node has recorded these reports, or says why it never will; one that is another by now stays, and one that its
-- worker holds. With the last word of a job its row goes, and what else is said of it.
CREATE FUNCTION openexec.reported(p_session bigint, p_ids text[], p_at bigint[], p_ignored text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, openexec, pg_temp AS $$
DECLARE
  held text[];
BEGIN
  PERFORM begins();
  PERFORM set_config('lock_timeout', '3000', true);
  PERFORM 1 FROM mutex WHERE one FOR UPDATE;
  PERFORM 1 FROM node WHERE node.one AND node.session = p_session FOR SHARE;
  IF NOT FOUND THEN RETURN; END IF;
  SELECT array_agg(h.id) INTO held FROM (SELECT r.id FROM report r JOIN unnest(p_ids, p_at) u(id, at)
    ON u.id = r.id AND u.at = (extract(epoch FROM r.at) * 1000000)::bigint FOR UPDATE OF r SKIP LOCKED) h;
  DELETE FROM job WHERE job.id IN (SELECT w.id FROM job w WHERE w.id = ANY (held)
    AND NOT EXISTS (SELECT 1 FROM open_job o WHERE o.n = w.n) FOR UPDATE SKIP LOCKED);
  -- Of a job that ended and whose row a worker holds the report stays, for the next time.
  DELETE FROM report r USING unnest(p_ids, p_ignored) u(id, why) LEFT JOIN job w ON w.id = u.id
    WHERE r.id = u.id AND r.id = ANY (held)
      AND (w.id IS NULL OR u.why IS NULL AND EXISTS (SELECT 1 FROM open_job o WHERE o.n = w.n));
  UPDATE report r SET ignored = u.why FROM unnest(p_ids, p_ignored) u(id, why)
    JOIN job w ON w.id = u.id JOIN open_job o ON o.n = w.n
    WHERE r.id = u.id AND r.id = ANY (held) AND u.why IS NOT NULL;
END $$;

-- An operator gives a job back to its queue whose worker is gone. `status` is 'released', or why not.
CREATE FUNCTION openexec.release(p_id text, OUT status text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, openexec, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
  at bigint; since timestamptz;
BEGIN
  PERFORM begins();
  PERFORM set_config('lock_timeout', '3000', true);
  SELECT w.n, w.taken_at INTO at, since FROM job w WHERE w.id = p_id FOR UPDATE;
  IF NOT FOUND THEN status := CASE WHEN ended(p_id) THEN 'completed' ELSE 'unknown' END; RETURN; END IF;
  IF since IS NULL THEN status := 'waits'; RETURN; END IF;
  -- A report goes only after its record is there: in this order one of the two is seen.
  IF EXISTS (SELECT 1 FROM report WHERE report.id = p_id AND report.ignored IS NULL) THEN
    status := 'reported'; RETURN;
  END IF;
  IF NOT EXISTS (SELECT 1 FROM open_job WHERE n = at) THEN status := 'completed'; RETURN; END IF;
  UPDATE job w SET taken_at = NULL, taken_by = NULL, again = true WHERE w.id = p_id;
  status := 'released';
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA openexec FROM PUBLIC;
