BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE audit (
	id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	actor VARCHAR(200) NOT NULL, 
	action VARCHAR(64) NOT NULL, 
	model VARCHAR(64) NOT NULL, 
	details JSON NOT NULL, 
	CONSTRAINT pk_audit PRIMARY KEY (id)
);
INSERT INTO "audit" VALUES(1,'2026-11-21 13:49:48.981497','local','register','m','{"model_version":1,"digest":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","default":{"model_version":1,"operating_point":"argmax@1"}}');
INSERT INTO "audit" VALUES(2,'2026-11-21 13:49:48.999454','local','register','m','{"model_version":2,"digest":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}');
INSERT INTO "audit" VALUES(3,'2026-11-21 13:49:49.025839','token','register','n','{"model_version":1,"digest":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","default":{"model_version":1,"operating_point":"argmax@1"}}');
INSERT INTO "audit" VALUES(4,'2026-11-21 13:49:49.032603','ann','publish','m','{"operating_point":"p@1","model_version":1,"digest":"67063608bd0b162ee06d72bfb97e329b488adc371078f646411ddac7b365bc9e"}');
INSERT INTO "audit" VALUES(5,'2026-11-21 13:49:49.039063','ann','publish','m','{"operating_point":"p@2","model_version":2,"digest":"67063608bd0b162ee06d72bfb97e329b488adc371078f646411ddac7b365bc9e"}');
INSERT INTO "audit" VALUES(6,'2026-11-21 13:49:49.039063','ann','set default','m','{"from":{"model_version":1,"operating_point":"argmax@1"},"to":{"model_version":2,"operating_point":"p@2"},"reason":"better: über"}');
INSERT INTO "audit" VALUES(7,'2026-11-21 13:49:49.044953','ben','set default','m','{"from":{"model_version":2,"operating_point":"p@2"},"to":{"model_version":1,"operating_point":"argmax@1"},"reason":"worse"}');
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
CREATE TABLE model_versions (
	model VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	spec JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_model_versions PRIMARY KEY (model, version), 
	CONSTRAINT fk_model_versions_model_models FOREIGN KEY(model) REFERENCES models (name)
);
INSERT INTO "model_versions" VALUES('m',1,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','{"model":"m","version":1,"digest":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","graph_digest":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size_bytes":5,"inputs":[{"name":"x","dtype":"float32","shape":[null,3]},{"name":"s","dtype":"str","shape":[null]}],"classes":["clear","Betrug ü"],"output":"logits","output_kind":"logits","head":{"features":"features","logits":"logits","width":7},"prior":[0.9,0.1],"description":{"classes":["clear","Betrug ü"],"prior":[0.9,0.1],"columns":[{"name":"age","kind":"category","missing":"gone","codes":{"F":0.0}}],"notes":["note"]},"created_at":"2026-11-21T13:49:48.981497Z"}','2026-11-21 13:49:48.981497');
INSERT INTO "model_versions" VALUES('m',2,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','{"model":"m","version":2,"digest":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","graph_digest":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size_bytes":5,"inputs":[{"name":"x","dtype":"float32","shape":[null,3]},{"name":"s","dtype":"str","shape":[null]}],"classes":["clear","Betrug ü"],"output":"logits","output_kind":"logits","head":{"features":"features","logits":"logits","width":7},"prior":[0.9,0.1],"description":{"classes":["clear","Betrug ü"],"prior":[0.9,0.1],"columns":[{"name":"age","kind":"category","missing":"gone","codes":{"F":0.0}}],"notes":["note"]},"created_at":"2026-11-21T13:49:48.999454Z"}','2026-11-21 13:49:48.999454');
INSERT INTO "model_versions" VALUES('n',1,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','{"model":"n","version":1,"digest":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","graph_digest":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size_bytes":5,"inputs":[{"name":"x","dtype":"float32","shape":[null,3]},{"name":"s","dtype":"str","shape":[null]}],"classes":["clear","Betrug ü"],"output":"logits","output_kind":"logits","head":{"features":"features","logits":"logits","width":7},"prior":[0.9,0.1],"description":{"classes":["clear","Betrug ü"],"prior":[0.9,0.1],"columns":[{"name":"age","kind":"category","missing":"gone","codes":{"F":0.0}}],"notes":["note"]},"created_at":"2026-11-21T13:49:49.025839Z"}','2026-11-21 13:49:49.025839');
CREATE TABLE models (
	name VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_models PRIMARY KEY (name)
);
INSERT INTO "models" VALUES('m','2026-11-21 13:49:48.981497');
INSERT INTO "models" VALUES('n','2026-11-21 13:49:49.025839');
CREATE TABLE operating_points (
	model VARCHAR(64) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	model_version INTEGER NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	point JSON NOT NULL, 
	details JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_operating_points PRIMARY KEY (model, name, version), 
	CONSTRAINT fk_operating_points_model_model_versions FOREIGN KEY(model, model_version) REFERENCES model_versions (model, version)
);
INSERT INTO "operating_points" VALUES('m','argmax',1,1,'1ed8d721bca13957cb0c58e87256fd445bffbe767cec1236766fa6aa1a86dd0b','{"classes":["clear","Betrug ü"],"scale":[1.0,1.0],"bias":[0.0,0.0]}','{"method":"argmax"}','2026-11-21 13:49:48.981497');
INSERT INTO "operating_points" VALUES('m','argmax',2,2,'1ed8d721bca13957cb0c58e87256fd445bffbe767cec1236766fa6aa1a86dd0b','{"classes":["clear","Betrug ü"],"scale":[1.0,1.0],"bias":[0.0,0.0]}','{"method":"argmax"}','2026-11-21 13:49:48.999454');
INSERT INTO "operating_points" VALUES('n','argmax',1,1,'1ed8d721bca13957cb0c58e87256fd445bffbe767cec1236766fa6aa1a86dd0b','{"classes":["clear","Betrug ü"],"scale":[1.0,1.0],"bias":[0.0,0.0]}','{"method":"argmax"}','2026-11-21 13:49:49.025839');
INSERT INTO "operating_points" VALUES('m','p',1,1,'67063608bd0b162ee06d72bfb97e329b488adc371078f646411ddac7b365bc9e','{"classes":["clear","Betrug ü"],"scale":[1.0,1.0],"bias":[0.0,0.3333333333333333]}','{"method":"x","evidence":{"f1":{"low":null}}}','2026-11-21 13:49:49.032603');
INSERT INTO "operating_points" VALUES('m','p',2,2,'67063608bd0b162ee06d72bfb97e329b488adc371078f646411ddac7b365bc9e','{"classes":["clear","Betrug ü"],"scale":[1.0,1.0],"bias":[0.0,0.3333333333333333]}','{"method":"x","evidence":{"f1":{"low":null}}}','2026-11-21 13:49:49.039063');
COMMIT;
