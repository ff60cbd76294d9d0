-- Archives that have never taken anything: whoever mistyped a URL once would keep everything for it.
DELETE FROM archived_runs WHERE archive IN (SELECT id FROM archives WHERE acknowledged IS NULL);
DELETE FROM archives WHERE acknowledged IS NULL;
