CREATE TABLE offices (id INTEGER PRIMARY KEY, name TEXT NOT NULL, country TEXT NOT NULL);
CREATE TABLE visits (office INTEGER NOT NULL REFERENCES offices (id), day TEXT NOT NULL, people INTEGER NOT NULL);
INSERT INTO offices VALUES (1, 'berlin', 'DE'), (2, 'lisbon', 'PT');
INSERT INTO visits VALUES (1, '2026-03-02', 41), (1, '2026-03-03', 57), (2, '2026-03-02', 23), (2, '2026-03-03', 30);
