# sqlite3: transactions, indices, triggers, JSON, journal modes with their files and locks, two writers, backup, integrity.
cd /tmp
sqlite3 a.db <<'END'
CREATE TABLE people(id INTEGER PRIMARY KEY, name TEXT, age INT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO people SELECT i, 'person ' || i, i * 37 % 90 FROM n;
CREATE INDEX ages ON people(age);
SELECT count(*), sum(age), max(name) FROM people;
SELECT age, count(*) c FROM people GROUP BY age ORDER BY c DESC, age LIMIT 3;
EXPLAIN QUERY PLAN SELECT * FROM people WHERE age = 5;
BEGIN; DELETE FROM people WHERE age < 45; ROLLBACK; SELECT count(*) FROM people;
CREATE TABLE log(what); CREATE TRIGGER t AFTER DELETE ON people BEGIN INSERT INTO log VALUES(old.id); END; DELETE FROM people WHERE id % 100 = 0; SELECT count(*) FROM log;
SELECT json_extract('{"a":[1,2,{"b":3}]}', '$.a[2].b'), json_group_array(id) FROM people WHERE id < 4;
PRAGMA journal_mode = WAL; UPDATE people SET age = age + 1; PRAGMA wal_checkpoint(TRUNCATE); PRAGMA integrity_check; VACUUM; SELECT sum(age) FROM people;
END
for i in 1 2 3 4; do sqlite3 -cmd '.timeout 20000' a.db "INSERT INTO log SELECT 'w$i' FROM people LIMIT 200" & done; wait; sqlite3 a.db "SELECT what, count(*) FROM log WHERE what LIKE 'w%' GROUP BY what"
sqlite3 a.db '.backup b.db'; sqlite3 b.db 'PRAGMA integrity_check; SELECT count(*) FROM people'; sqlite3 a.db .dump | sqlite3 c.db; sqlite3 c.db 'SELECT count(*) FROM people'; sqlite3 a.db '.mode csv' 'SELECT * FROM people LIMIT 2'; ls a.db*
