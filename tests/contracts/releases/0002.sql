BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE aliases (
	model VARCHAR(64) NOT NULL, 
	alias VARCHAR(64) NOT NULL, 
	point VARCHAR(64) NOT NULL, 
	point_version INTEGER NOT NULL, 
	CONSTRAINT pk_aliases PRIMARY KEY (model, alias), 
	CONSTRAINT fk_aliases_model_operating_points FOREIGN KEY(model, point, point_version) REFERENCES operating_points (model, name, version)
);
CREATE TABLE "audit" (
	id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	actor VARCHAR(200) NOT NULL, 
	action VARCHAR(64) NOT NULL, 
	model VARCHAR(64) NOT NULL, 
	details JSON NOT NULL, 
	previous VARCHAR(64) NOT NULL, 
	hash VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_audit PRIMARY KEY (id)
);
INSERT INTO "audit" VALUES(1,'2026-11-21 15:14:01.719615','local','register','m','{"model_version":1,"digest":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","default":{"model_version":1,"operating_point":"argmax@1"}}','0000000000000000000000000000000000000000000000000000000000000000','8c1fe0145fb70b5a851664c7fffcae01b9e1dbd3fd86d6e77c42e691e440b572');
INSERT INTO "audit" VALUES(2,'2026-11-21 15:14:01.758243','local','register','m','{"model_version":2,"digest":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}','8c1fe0145fb70b5a851664c7fffcae01b9e1dbd3fd86d6e77c42e691e440b572','1bc53e9faf0799fb9f65a24b752cfd515de9e2ee5e125ca3744127da5527b42f');
INSERT INTO "audit" VALUES(3,'2026-11-21 15:14:01.776616','token','register','n','{"model_version":1,"digest":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","default":{"model_version":1,"operating_point":"argmax@1"}}','1bc53e9faf0799fb9f65a24b752cfd515de9e2ee5e125ca3744127da5527b42f','08857e46e1b16d302c25f78dd28bb7fc3beedb95b50dbcf77df5080c738a2798');
INSERT INTO "audit" VALUES(4,'2026-11-21 15:14:01.789339','ann','publish','m','{"operating_point":"p@1","model_version":1,"digest":"67063608bd0b162ee06d72bfb97e329b488adc371078f646411ddac7b365bc9e"}','08857e46e1b16d302c25f78dd28bb7fc3beedb95b50dbcf77df5080c738a2798','9f46ce2f550665732c984d1d4dbd5d1792e58a85ed95865790c3349f11ef5d40');
INSERT INTO "audit" VALUES(5,'2026-11-21 15:14:01.796710','ann','publish','m','{"operating_point":"p@2","model_version":2,"digest":"67063608bd0b162ee06d72bfb97e329b488adc371078f646411ddac7b365bc9e"}','9f46ce2f550665732c984d1d4dbd5d1792e58a85ed95865790c3349f11ef5d40','42d4dfe125cdc12825e2db84ef0b7a860e16c59e4bb4878092731f4c283c48b5');
INSERT INTO "audit" VALUES(6,'2026-11-21 15:14:01.796710','ann','set default','m','{"from":{"model_version":1,"operating_point":"argmax@1"},"to":{"model_version":2,"operating_point":"p@2"},"reason":"better: über"}','42d4dfe125cdc12825e2db84ef0b7a860e16c59e4bb4878092731f4c283c48b5','a5e22b56aae6912bd6d6e8ebaba2a15e4178cc4b59738aad5d6082eb4726f177');
INSERT INTO "audit" VALUES(7,'2026-11-21 15:14:01.805385','ben','set default','m','{"from":{"model_version":2,"operating_point":"p@2"},"to":{"model_version":1,"operating_point":"argmax@1"},"reason":"worse"}','a5e22b56aae6912bd6d6e8ebaba2a15e4178cc4b59738aad5d6082eb4726f177','d42636ecbfdef25c8557208f78243cae92206b282b181daca720f736e2df97a2');
CREATE TABLE decisions (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	request_id VARCHAR(100) NOT NULL, 
	"row" INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	model VARCHAR(64) NOT NULL, 
	model_version INTEGER NOT NULL, 
	model_digest VARCHAR(64) NOT NULL, 
	point VARCHAR(80) NOT NULL, 
	point_digest VARCHAR(64) NOT NULL, 
	label TEXT NOT NULL, 
	margin FLOAT, 
	principal VARCHAR(200) NOT NULL, 
	input_digest VARCHAR(64) NOT NULL
);
CREATE TABLE defaults (
	model VARCHAR(64) NOT NULL, 
	model_version INTEGER NOT NULL, 
	point VARCHAR(64) NOT NULL, 
	point_version INTEGER NOT NULL, 
	CONSTRAINT pk_defaults PRIMARY KEY (model), 
	CONSTRAINT fk_defaults_model_model_versions FOREIGN KEY(model, model_version) REFERENCES model_versions (model, version), 
	CONSTRAINT fk_defaults_model_operating_points FOREIGN KEY(model, point, point_version) REFERENCES operating_points (model, name, version)
);
INSERT INTO "defaults" VALUES('m',1,'argmax',1);
INSERT INTO "defaults" VALUES('n',1,'argmax',1);
CREATE TABLE jobs (
	id VARCHAR(32) NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	model VARCHAR(64) NOT NULL, 
	principal VARCHAR(200) NOT NULL, 
	idempotency_key VARCHAR(200), 
	request_digest VARCHAR(64) NOT NULL, 
	spec JSON NOT NULL, 
	data_digest VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	started_at DATETIME, 
	finished_at DATETIME, 
	owner VARCHAR(64), 
	lease_until DATETIME, 
	attempts INTEGER NOT NULL, 
	cancel_asked BOOLEAN NOT NULL, 
	progress JSON, 
	result JSON, 
	error JSON, 
	CONSTRAINT pk_jobs PRIMARY KEY (id), 
	CONSTRAINT uq_jobs_principal UNIQUE (principal, idempotency_key)
);
CREATE TABLE keys (
	id VARCHAR(16) NOT NULL, 
	name VARCHAR(100) NOT NULL, 
	hash VARCHAR(64) NOT NULL, 
	scopes JSON NOT NULL, 
	models JSON, 
	created_at DATETIME NOT NULL, 
	created_by VARCHAR(200) NOT NULL, 
	expires_at DATETIME, 
	revoked_at DATETIME, 
	CONSTRAINT pk_keys PRIMARY KEY (id), 
	CONSTRAINT uq_keys_hash UNIQUE (hash)
);
CREATE TABLE model_versions (
	model VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	spec JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_model_versions PRIMARY KEY (model, version), 
	CONSTRAINT fk_model_versions_model_models FOREIGN KEY(model) REFERENCES models (name)
);
INSERT INTO "model_versions" VALUES('m',1,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','{"model":"m","version":1,"digest":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","graph_digest":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size_bytes":5,"inputs":[{"name":"x","dtype":"float32","shape":[null,3]},{"name":"s","dtype":"str","shape":[null]}],"classes":["clear","Betrug ü"],"output":"logits","output_kind":"logits","head":{"features":"features","logits":"logits","width":7},"prior":[0.9,0.1],"description":{"classes":["clear","Betrug ü"],"prior":[0.9,0.1],"columns":[{"name":"age","kind":"category","missing":"gone","codes":{"F":0.0}}],"notes":["note"]},"created_at":"2026-11-21T15:14:01.719615Z"}','2026-11-21 15:14:01.719615');
INSERT INTO "model_versions" VALUES('m',2,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','{"model":"m","version":2,"digest":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","graph_digest":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size_bytes":5,"inputs":[{"name":"x","dtype":"float32","shape":[null,3]},{"name":"s","dtype":"str","shape":[null]}],"classes":["clear","Betrug ü"],"output":"logits","output_kind":"logits","head":{"features":"features","logits":"logits","width":7},"prior":[0.9,0.1],"description":{"classes":["clear","Betrug ü"],"prior":[0.9,0.1],"columns":[{"name":"age","kind":"category","missing":"gone","codes":{"F":0.0}}],"notes":["note"]},"created_at":"2026-11-21T15:14:01.758243Z"}','2026-11-21 15:14:01.758243');
INSERT INTO "model_versions" VALUES('n',1,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','{"model":"n","version":1,"digest":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","graph_digest":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size_bytes":5,"inputs":[{"name":"x","dtype":"float32","shape":[null,3]},{"name":"s","dtype":"str","shape":[null]}],"classes":["clear","Betrug ü"],"output":"logits","output_kind":"logits","head":{"features":"features","logits":"logits","width":7},"prior":[0.9,0.1],"description":{"classes":["clear","Betrug ü"],"prior":[0.9,0.1],"columns":[{"name":"age","kind":"category","missing":"gone","codes":{"F":0.0}}],"notes":["note"]},"created_at":"2026-11-21T15:14:01.776616Z"}','2026-11-21 15:14:01.776616');
CREATE TABLE models (
	name VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_models PRIMARY KEY (name)
);
INSERT INTO "models" VALUES('m','2026-11-21 15:14:01.719615');
INSERT INTO "models" VALUES('n','2026-11-21 15:14:01.776616');
CREATE TABLE operating_points (
	model VARCHAR(64) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	model_version INTEGER NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	point JSON NOT NULL, 
	details JSON NOT NULL, 
	created_at DATETIME NOT NULL, state VARCHAR(16) DEFAULT 'approved' NOT NULL, author VARCHAR(200) DEFAULT '' NOT NULL, approved_by VARCHAR(200), model_digest VARCHAR(64) DEFAULT '' NOT NULL, 
	CONSTRAINT pk_operating_points PRIMARY KEY (model, name, version), 
	CONSTRAINT fk_operating_points_model_model_versions FOREIGN KEY(model, model_version) REFERENCES model_versions (model, version)
);
INSERT INTO "operating_points" VALUES('m','argmax',1,1,'1ed8d721bca13957cb0c58e87256fd445bffbe767cec1236766fa6aa1a86dd0b','{"classes":["clear","Betrug ü"],"scale":[1.0,1.0],"bias":[0.0,0.0]}','{"method":"argmax"}','2026-11-21 15:14:01.719615','approved','local',NULL,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
INSERT INTO "operating_points" VALUES('m','argmax',2,2,'1ed8d721bca13957cb0c58e87256fd445bffbe767cec1236766fa6aa1a86dd0b','{"classes":["clear","Betrug ü"],"scale":[1.0,1.0],"bias":[0.0,0.0]}','{"method":"argmax"}','2026-11-21 15:14:01.758243','approved','local',NULL,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
INSERT INTO "operating_points" VALUES('n','argmax',1,1,'1ed8d721bca13957cb0c58e87256fd445bffbe767cec1236766fa6aa1a86dd0b','{"classes":["clear","Betrug ü"],"scale":[1.0,1.0],"bias":[0.0,0.0]}','{"method":"argmax"}','2026-11-21 15:14:01.776616','approved','token',NULL,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
INSERT INTO "operating_points" VALUES('m','p',1,1,'67063608bd0b162ee06d72bfb97e329b488adc371078f646411ddac7b365bc9e','{"classes":["clear","Betrug ü"],"scale":[1.0,1.0],"bias":[0.0,0.3333333333333333]}','{"method":"x","evidence":{"f1":{"low":null}}}','2026-11-21 15:14:01.789339','approved','ann',NULL,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
INSERT INTO "operating_points" VALUES('m','p',2,2,'67063608bd0b162ee06d72bfb97e329b488adc371078f646411ddac7b365bc9e','{"classes":["clear","Betrug ü"],"scale":[1.0,1.0],"bias":[0.0,0.3333333333333333]}','{"method":"x","evidence":{"f1":{"low":null}}}','2026-11-21 15:14:01.796710','approved','ann',NULL,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
CREATE INDEX ix_jobs_state ON jobs (state);
CREATE INDEX ix_decisions_request_id ON decisions (request_id);
CREATE INDEX ix_decisions_at ON decisions (at);
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
DELETE FROM "sqlite_sequence";
COMMIT;
