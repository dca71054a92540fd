-- A database with something in every table, as this revision left it. Never changed.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE bundles (
	consumer VARCHAR(65) NOT NULL, 
	version BIGINT NOT NULL, 
	content VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_bundles PRIMARY KEY (consumer)
);
INSERT INTO "bundles" VALUES('edge',1795486982,'51239b21be9224408480562a629b209f965dc31a9557fd46dd62020d0fd49f39');
INSERT INTO "bundles" VALUES('dev/scratch',1795486982,'d637d309587cf28e24bcf20a18ad00e1b24daa72a88f3544ced183b25c248f4b');
INSERT INTO "bundles" VALUES('prod/presto',1795486982,'7660822f5f61484a9c62bc807ec8a90fe4e3d0e9e00b125c9e707d9fc407a278');
CREATE TABLE calls (
	server VARCHAR(65) NOT NULL, 
	kind VARCHAR(8) NOT NULL, 
	id VARCHAR(128) NOT NULL, 
	at_ms BIGINT NOT NULL, 
	release TEXT NOT NULL, 
	sub TEXT NOT NULL, 
	sub_type VARCHAR(8) NOT NULL, 
	surface TEXT NOT NULL, 
	channel TEXT, 
	client_id TEXT NOT NULL, 
	tool TEXT NOT NULL, 
	method TEXT NOT NULL, 
	code VARCHAR(64) NOT NULL, 
	reason TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	policy TEXT NOT NULL, 
	policy_version TEXT NOT NULL, 
	arguments_digest TEXT NOT NULL, 
	arguments_bytes BIGINT NOT NULL, 
	protocol TEXT NOT NULL, 
	request_id TEXT NOT NULL, 
	trace_id TEXT NOT NULL, 
	CONSTRAINT pk_calls PRIMARY KEY (server, kind, id)
);
INSERT INTO "calls" VALUES('prod/presto','intent','call-0',1790000000000,'rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr','ana','person','cli',NULL,'pegboard-cli','run_query','','','','','granted','abc','d',2,'','request-call-0','trace-call-0');
INSERT INTO "calls" VALUES('prod/presto','intent','call-1',1790000000001,'rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr','ana','person','cli',NULL,'pegboard-cli','run_query','','','','','granted','abc','d',2,'','request-call-1','trace-call-1');
INSERT INTO "calls" VALUES('prod/presto','intent','call-2',1790000000002,'rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr','ana','person','cli',NULL,'pegboard-cli','run_query','','','','','granted','abc','d',2,'','request-call-2','trace-call-2');
INSERT INTO "calls" VALUES('prod/presto','intent','unfinished',1790000000009,'rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr','ana','person','cli',NULL,'pegboard-cli','run_query','','','','','granted','abc','d',2,'','request-unfinished','trace-unfinished');
INSERT INTO "calls" VALUES('prod/presto','denial','denied',1790000000010,'rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr','fay','person','cli',NULL,'pegboard-cli','get_revenue_metrics','','tool_unavailable','tool_unavailable','policy ads-revenue does not permit it','ads-revenue','abc','',0,'','request-denied','');
INSERT INTO "calls" VALUES('dev/scratch','edge','edge-1',1790000000012,'','ana','person','chat',NULL,'pegboard-chat','echo','tools/call','access_denied','surface_not_granted','HTTP 403','','','',0,'','edge-1','');
CREATE TABLE counted (
	layer VARCHAR(8) NOT NULL, 
	server VARCHAR(65) NOT NULL, 
	id VARCHAR(128) NOT NULL, 
	seen_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_counted PRIMARY KEY (layer, server, id)
);
INSERT INTO "counted" VALUES('server','prod/presto','nameless',1795486982472);
INSERT INTO "counted" VALUES('edge','','edge-2',1795486982482);
CREATE TABLE grants (
	server VARCHAR(65) NOT NULL, 
	kind VARCHAR(8) NOT NULL, 
	value VARCHAR(255) NOT NULL, 
	requested BOOLEAN NOT NULL, 
	granted BOOLEAN NOT NULL, 
	CONSTRAINT pk_grants PRIMARY KEY (server, kind, value), 
	CONSTRAINT fk_grants_server_servers FOREIGN KEY(server) REFERENCES servers (name)
);
INSERT INTO "grants" VALUES('prod/presto','group','finance',0,1);
INSERT INTO "grants" VALUES('prod/presto','group','data-infra',0,1);
INSERT INTO "grants" VALUES('prod/presto','group','ads-eng',1,1);
INSERT INTO "grants" VALUES('prod/presto','group','sales',1,0);
INSERT INTO "grants" VALUES('prod/presto','group','platform',0,1);
INSERT INTO "grants" VALUES('prod/presto','surface','chat',0,1);
INSERT INTO "grants" VALUES('prod/presto','surface','ide',0,1);
INSERT INTO "grants" VALUES('prod/presto','surface','bot',1,0);
INSERT INTO "grants" VALUES('prod/presto','surface','cli',1,1);
INSERT INTO "grants" VALUES('dev/scratch','group','finance',0,1);
INSERT INTO "grants" VALUES('dev/scratch','group','data-infra',0,1);
INSERT INTO "grants" VALUES('dev/scratch','group','search-eng',0,1);
INSERT INTO "grants" VALUES('dev/scratch','group','ads-eng',0,1);
INSERT INTO "grants" VALUES('dev/scratch','group','platform',0,1);
INSERT INTO "grants" VALUES('dev/scratch','surface','cli',0,1);
CREATE TABLE outcomes (
	server VARCHAR(65) NOT NULL, 
	id VARCHAR(128) NOT NULL, 
	at_ms BIGINT NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	error_type TEXT NOT NULL, 
	result_digest TEXT NOT NULL, 
	result_bytes BIGINT NOT NULL, 
	duration_ms FLOAT NOT NULL, 
	steps_ms JSON NOT NULL, 
	CONSTRAINT pk_outcomes PRIMARY KEY (server, id)
);
INSERT INTO "outcomes" VALUES('prod/presto','call-0',1790000000000,'ok','','',0,12.5,'{}');
INSERT INTO "outcomes" VALUES('prod/presto','call-1',1790000000001,'ok','','',0,12.5,'{}');
INSERT INTO "outcomes" VALUES('prod/presto','call-2',1790000000002,'ok','','',0,12.5,'{}');
CREATE TABLE policies (
	server VARCHAR(65) NOT NULL, 
	release VARCHAR(64) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	text TEXT NOT NULL, 
	CONSTRAINT pk_policies PRIMARY KEY (server, release, name), 
	CONSTRAINT fk_policies_server_releases FOREIGN KEY(server, release) REFERENCES releases (server, digest)
);
INSERT INTO "policies" VALUES('prod/presto','3b079ccee4c85864d055b38b9f03ccd26f2408c73978565c12b4d8ee14b91d99','granted','permit (principal, action, resource);');
INSERT INTO "policies" VALUES('prod/presto','3b079ccee4c85864d055b38b9f03ccd26f2408c73978565c12b4d8ee14b91d99','ads-revenue','permit (principal in Group::"ads-eng", action, resource);');
INSERT INTO "policies" VALUES('dev/scratch','2feb652a1064b5fcb551732ab6a7d8a3933c43ca7386903c7751b1a510f32a1d','granted','permit (principal, action, resource);');
CREATE TABLE refusal_counts (
	layer VARCHAR(8) NOT NULL, 
	server VARCHAR(65) NOT NULL, 
	code VARCHAR(64) NOT NULL, 
	hour_ms BIGINT NOT NULL, 
	count INTEGER NOT NULL, 
	CONSTRAINT pk_refusal_counts PRIMARY KEY (layer, server, code, hour_ms)
);
INSERT INTO "refusal_counts" VALUES('server','prod/presto','tool_unavailable',1789999200000,1);
INSERT INTO "refusal_counts" VALUES('edge','dev/scratch','access_denied',1789999200000,1);
CREATE TABLE rejected_records (
	server VARCHAR(65) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	received_at_ms BIGINT NOT NULL, 
	problem TEXT NOT NULL, 
	text TEXT NOT NULL, 
	CONSTRAINT pk_rejected_records PRIMARY KEY (server, digest)
);
INSERT INTO "rejected_records" VALUES('prod/presto','007815dd696c4ed6d38722d639806e8a60e42b7c7687e1157a16f98364873626',1795486982475,'outcome.id: Input should be a valid string','{"kind": "outcome", "id": 5}');
CREATE TABLE releases (
	server VARCHAR(65) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	manifest JSON NOT NULL, 
	seen_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_releases PRIMARY KEY (server, digest), 
	CONSTRAINT fk_releases_server_servers FOREIGN KEY(server) REFERENCES servers (name)
);
INSERT INTO "releases" VALUES('prod/presto','3b079ccee4c85864d055b38b9f03ccd26f2408c73978565c12b4d8ee14b91d99','{"name": "presto", "entry": "presto:server", "title": null, "description": "Query the warehouse", "owner": "platform", "support_channel": "#data-platform", "sensitivity": "confidential", "gallery": true, "requests": {"business_groups": ["ads-eng", "sales"], "surfaces": ["cli", "bot"], "channels": [], "services": []}, "resources": {"memory_mb": 512, "open_files": 256}, "replicas": {"min": 1, "max": 1}, "egress": [], "secrets": {}}',1795486982333);
INSERT INTO "releases" VALUES('dev/scratch','2feb652a1064b5fcb551732ab6a7d8a3933c43ca7386903c7751b1a510f32a1d','{"name": "scratch", "entry": "scratch:server", "title": null, "description": "Says what it heard", "owner": "tools-team", "support_channel": "#tools", "sensitivity": "internal", "gallery": true, "requests": {"business_groups": [], "surfaces": [], "channels": [], "services": []}, "resources": {"memory_mb": 512, "open_files": 256}, "replicas": {"min": 1, "max": 1}, "egress": [], "secrets": {}}',1795486982333);
CREATE TABLE servers (
	name VARCHAR(65) NOT NULL, 
	source TEXT NOT NULL, 
	registered BOOLEAN NOT NULL, 
	reason TEXT NOT NULL, 
	release VARCHAR(64), 
	CONSTRAINT pk_servers PRIMARY KEY (name)
);
INSERT INTO "servers" VALUES('prod/presto','../../../../servers/presto',1,'the demo''s security review of prod/presto','3b079ccee4c85864d055b38b9f03ccd26f2408c73978565c12b4d8ee14b91d99');
INSERT INTO "servers" VALUES('dev/scratch','../../../../servers/scratch',1,'the demo''s rule for the dev namespace: every employee group, command line only','2feb652a1064b5fcb551732ab6a7d8a3933c43ca7386903c7751b1a510f32a1d');
CREATE TABLE tools (
	server VARCHAR(65) NOT NULL, 
	release VARCHAR(64) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	position INTEGER NOT NULL, 
	title TEXT, 
	description TEXT NOT NULL, 
	policy VARCHAR(64) NOT NULL, 
	minutes_saved FLOAT NOT NULL, 
	input_schema JSON NOT NULL, 
	CONSTRAINT pk_tools PRIMARY KEY (server, release, name), 
	CONSTRAINT fk_tools_server_releases FOREIGN KEY(server, release) REFERENCES releases (server, digest)
);
INSERT INTO "tools" VALUES('prod/presto','3b079ccee4c85864d055b38b9f03ccd26f2408c73978565c12b4d8ee14b91d99','run_query',0,NULL,'Run SQL.','granted',6.0,'{}');
INSERT INTO "tools" VALUES('prod/presto','3b079ccee4c85864d055b38b9f03ccd26f2408c73978565c12b4d8ee14b91d99','get_revenue_metrics',1,NULL,'Revenue.','ads-revenue',25.0,'{}');
INSERT INTO "tools" VALUES('dev/scratch','2feb652a1064b5fcb551732ab6a7d8a3933c43ca7386903c7751b1a510f32a1d','echo',0,NULL,'','granted',0.0,'{}');
CREATE INDEX ix_calls_at_ms ON calls (at_ms);
CREATE INDEX ix_calls_server_at_ms ON calls (server, at_ms);
CREATE INDEX ix_calls_sub_at_ms ON calls (sub, at_ms);
CREATE INDEX ix_counted_seen_at_ms ON counted (seen_at_ms);
COMMIT;
