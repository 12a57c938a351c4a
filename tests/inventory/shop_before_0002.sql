BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE outbox (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	event_id TEXT NOT NULL, 
	aggregate_id TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	type TEXT NOT NULL, 
	headers BLOB NOT NULL, 
	body BLOB NOT NULL, 
	create_time BIGINT NOT NULL, 
	publish_time BIGINT, 
	stream_seq BIGINT, 
	stream_epoch TEXT, 
	UNIQUE (event_id)
);
CREATE TABLE prices (
	product_id TEXT NOT NULL, 
	product_version INTEGER NOT NULL, 
	price_minor BIGINT NOT NULL, 
	currency TEXT NOT NULL, 
	effective_time BIGINT NOT NULL, 
	PRIMARY KEY (product_id, product_version), 
	FOREIGN KEY(product_id) REFERENCES products (product_id)
);
INSERT INTO "prices" VALUES('beans',1,500,'EUR',1767268800000000);
CREATE TABLE products (
	product_id TEXT NOT NULL, 
	sku TEXT NOT NULL, 
	name TEXT NOT NULL, 
	description TEXT NOT NULL, 
	category TEXT NOT NULL, 
	price_minor BIGINT NOT NULL, 
	currency TEXT NOT NULL, 
	name_key TEXT NOT NULL, 
	search_text TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	create_time BIGINT NOT NULL, 
	update_time BIGINT NOT NULL, 
	PRIMARY KEY (product_id), 
	CONSTRAINT price_is_positive CHECK (price_minor > 0), 
	UNIQUE (sku)
);
INSERT INTO "products" VALUES('beans','B-1','Beans','','',500,'EUR','beans','beansb-1',1,1767268800000000,1767268800000000);
CREATE TABLE remembered_calls (
	scope TEXT NOT NULL, 
	request_id TEXT NOT NULL, 
	digest BLOB NOT NULL, 
	reply_type TEXT, 
	reply BLOB, 
	refusal BLOB, 
	create_time BIGINT NOT NULL, 
	PRIMARY KEY (scope, request_id)
);
CREATE TABLE reservation_lines (
	order_id TEXT NOT NULL, 
	product_id TEXT NOT NULL, 
	warehouse_id TEXT NOT NULL, 
	quantity BIGINT NOT NULL, 
	PRIMARY KEY (order_id, product_id, warehouse_id), 
	CONSTRAINT quantity_is_positive CHECK (quantity > 0), 
	FOREIGN KEY(order_id) REFERENCES reservations (order_id)
);
INSERT INTO "reservation_lines" VALUES('sold','beans','40e877f3-146d-5a2c-b319-8e746c2f4a9e',3);
INSERT INTO "reservation_lines" VALUES('holding','beans','40e877f3-146d-5a2c-b319-8e746c2f4a9e',2);
CREATE TABLE reservations (
	order_id TEXT NOT NULL, 
	reservation_id TEXT, 
	state TEXT NOT NULL, 
	wants TEXT NOT NULL, 
	refusal TEXT, 
	expire_time BIGINT, 
	version INTEGER NOT NULL, 
	create_time BIGINT NOT NULL, 
	update_time BIGINT NOT NULL, 
	PRIMARY KEY (order_id), 
	CONSTRAINT state_is_known CHECK (state IN ('reserved', 'committed', 'released', 'expired', 'refused')), 
	UNIQUE (reservation_id)
);
INSERT INTO "reservations" VALUES('sold','hold-sold','committed','[["beans", "", 3]]',NULL,1767269700000000,2,1767268800000000,1767268800000000);
INSERT INTO "reservations" VALUES('holding','hold-holding','reserved','[["beans", "", 2]]',NULL,1767269700000000,1,1767268800000000,1767268800000000);
CREATE TABLE stock_levels (
	product_id TEXT NOT NULL, 
	warehouse_id TEXT NOT NULL, 
	on_hand BIGINT NOT NULL, 
	reserved BIGINT NOT NULL, 
	update_time BIGINT NOT NULL, 
	PRIMARY KEY (product_id, warehouse_id), 
	CONSTRAINT on_hand_is_not_negative CHECK (on_hand >= 0), 
	CONSTRAINT reserved_is_on_hand CHECK (reserved <= on_hand), 
	CONSTRAINT reserved_is_not_negative CHECK (reserved >= 0), 
	FOREIGN KEY(product_id) REFERENCES products (product_id), 
	FOREIGN KEY(warehouse_id) REFERENCES warehouses (warehouse_id)
);
INSERT INTO "stock_levels" VALUES('beans','40e877f3-146d-5a2c-b319-8e746c2f4a9e',7,2,1767268800000000);
CREATE TABLE stock_movements (
	sequence INTEGER NOT NULL, 
	product_id TEXT NOT NULL, 
	warehouse_id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	delta_on_hand BIGINT NOT NULL, 
	delta_reserved BIGINT NOT NULL, 
	order_id TEXT NOT NULL, 
	trace_id TEXT NOT NULL, 
	create_time BIGINT NOT NULL, 
	PRIMARY KEY (sequence), 
	CONSTRAINT kind_is_known CHECK (kind IN ('set', 'reserve', 'release', 'expire', 'commit', 'return')), 
	CONSTRAINT something_moved CHECK (delta_on_hand <> 0 OR delta_reserved <> 0), 
	FOREIGN KEY(product_id, warehouse_id) REFERENCES stock_levels (product_id, warehouse_id)
);
INSERT INTO "stock_movements" VALUES(1,'beans','40e877f3-146d-5a2c-b319-8e746c2f4a9e','set',10,0,'','',1767268800000000);
INSERT INTO "stock_movements" VALUES(2,'beans','40e877f3-146d-5a2c-b319-8e746c2f4a9e','reserve',0,3,'sold','',1767268800000000);
INSERT INTO "stock_movements" VALUES(3,'beans','40e877f3-146d-5a2c-b319-8e746c2f4a9e','reserve',0,2,'holding','',1767268800000000);
INSERT INTO "stock_movements" VALUES(4,'beans','40e877f3-146d-5a2c-b319-8e746c2f4a9e','commit',-3,-3,'sold','',1767268800000000);
CREATE TABLE warehouses (
	warehouse_id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	create_time BIGINT NOT NULL, 
	PRIMARY KEY (warehouse_id), 
	UNIQUE (name)
);
INSERT INTO "warehouses" VALUES('40e877f3-146d-5a2c-b319-8e746c2f4a9e','Main',1767268800000000);
CREATE INDEX outbox_publish_time ON outbox (publish_time);
CREATE INDEX outbox_stream_seq ON outbox (stream_seq);
CREATE INDEX outbox_unpublished ON outbox (seq) WHERE stream_seq IS NULL;
CREATE INDEX products_by_category ON products (category, create_time, product_id);
CREATE INDEX products_by_create_time ON products (create_time, product_id);
CREATE INDEX products_by_name ON products (name_key, product_id);
CREATE INDEX products_by_price ON products (currency, price_minor, product_id);
CREATE INDEX ix_remembered_calls_create_time ON remembered_calls (create_time);
CREATE INDEX reservations_by_expiry ON reservations (expire_time) WHERE state = 'reserved';
CREATE INDEX stock_movements_by_level ON stock_movements (product_id, warehouse_id, sequence);
CREATE INDEX stock_movements_by_order ON stock_movements (order_id);
DELETE FROM "sqlite_sequence";
COMMIT;
