CREATE TABLE public.blob_chunks (
    digest bytea NOT NULL,
    "position" bigint NOT NULL,
    data bytea NOT NULL,
    data_digest bytea NOT NULL
);
CREATE TABLE public.blobs (
    digest bytea NOT NULL,
    size bigint NOT NULL,
    collected bigint DEFAULT 0 NOT NULL
);
CREATE TABLE public.channels (
    model text NOT NULL,
    channel text NOT NULL,
    revision bigint NOT NULL,
    version bigint NOT NULL,
    candidate bigint NOT NULL,
    version_before bigint NOT NULL,
    record bytea NOT NULL,
    signature bytea NOT NULL,
    state_json text NOT NULL,
    digest bytea NOT NULL
);
CREATE TABLE public.claims (
    task text NOT NULL,
    round bigint NOT NULL,
    agent_id text NOT NULL,
    update_id bytea NOT NULL,
    weight bigint NOT NULL,
    metrics_json text NOT NULL,
    replica text NOT NULL,
    kept bigint NOT NULL
);
CREATE TABLE public.leases (
    name text NOT NULL,
    epoch bigint NOT NULL,
    holder text NOT NULL,
    renewed_ms bigint NOT NULL,
    commits bigint NOT NULL,
    replica text DEFAULT ''::text NOT NULL
);
CREATE TABLE public.partial_chunks (
    task text NOT NULL,
    round bigint NOT NULL,
    part text NOT NULL,
    "position" bigint NOT NULL,
    data bytea NOT NULL,
    data_digest bytea NOT NULL
);
CREATE TABLE public.pins (
    model text NOT NULL,
    version bigint NOT NULL
);
CREATE TABLE public.receipts (
    update_id bytea NOT NULL,
    receipt bytea NOT NULL,
    signature bytea NOT NULL
);
CREATE TABLE public.replicas (
    replica text NOT NULL,
    address text NOT NULL,
    renewed_ms bigint NOT NULL
);
CREATE TABLE public.report_snapshots (
    model text NOT NULL,
    sums_json text NOT NULL,
    digest bytea NOT NULL
);
CREATE TABLE public.retained_chunks (
    update_id bytea NOT NULL,
    "position" bigint NOT NULL,
    data bytea NOT NULL,
    data_digest bytea NOT NULL
);
CREATE TABLE public.retained_updates (
    update_id bytea NOT NULL,
    model text NOT NULL,
    version bigint NOT NULL,
    header bytea NOT NULL,
    size bigint NOT NULL
);
CREATE TABLE public.rounds (
    task text NOT NULL,
    round bigint NOT NULL,
    open bigint NOT NULL
);
CREATE TABLE public.schema_version (
    version bigint NOT NULL
);
CREATE TABLE public.sessions (
    agent_id text NOT NULL,
    replica text NOT NULL,
    hello bytea NOT NULL,
    ready bigint NOT NULL
);
CREATE TABLE public.signing_keys (
    name text NOT NULL,
    public_key bytea NOT NULL
);
CREATE TABLE public.tasks (
    task text NOT NULL,
    config_json text NOT NULL,
    state text NOT NULL,
    round_json text NOT NULL,
    counters_json text NOT NULL,
    digest bytea
);
CREATE TABLE public.variant_lists (
    model text NOT NULL,
    version bigint NOT NULL,
    list bytea NOT NULL,
    signature bytea NOT NULL
);
CREATE TABLE public.versions (
    model text NOT NULL,
    version bigint NOT NULL,
    manifest bytea NOT NULL,
    signature bytea NOT NULL,
    digest bytea NOT NULL,
    parent_digest bytea NOT NULL,
    collected bigint DEFAULT 0 NOT NULL
);
INSERT INTO public.blob_chunks VALUES ('\x1a4c30a9cb7997acf77a5d4795faaff2d6a13599714794ae724d19187295679e', 0, '\x0808120c636f6d6d6f6e7765696768743aa8010a390a05696e7075740a0d6f75747075742e7765696768740a0b6f75747075742e6269617312066c6f676974731a066f7574707574220447656d6d12036d6c702a150a020c031001420d6f75747075742e7765696768742a120a01031001420b6f75747075742e626961735a1c0a05696e70757412130a110801120d0a07120562617463680a02080c621d0a066c6f6769747312130a110801120d0a07120562617463680a02080342021011', '\x1a4c30a9cb7997acf77a5d4795faaff2d6a13599714794ae724d19187295679e');
INSERT INTO public.blob_chunks VALUES ('\xb90e67343714f8064baf6dfff348d29913ab34bc06adbbd3a23919c97ee40b62', 0, '\xbed71a3fcc7dc43edc9d6e3e07095dbc057aa5bed752d23eda3308bfc834fa3e4d31d9be3d2de43dbcf8863d050787bdf8e1303e87ae023fc21b213ff6fb1b3e586b88be6ea29cbd87a2d03efa79eebe64bbb03e973d81bdc62ca6bd08c694be9480c7be3d6d003e9a97d73e72fa43be5fd6233d0f55813eeb310c3f60d23dbed510363e8a5282bc9c33023f7477d23e000000000000000000000000', '\xb90e67343714f8064baf6dfff348d29913ab34bc06adbbd3a23919c97ee40b62');
INSERT INTO public.blob_chunks VALUES ('\x651964d819727fcab2215ceb27454278093b4452b98c50f323944ecb2472bcde', 0, '\x36d0123f17c9d03e8243563e808115bc239888beaa25e83e5a0df4be91472a3fa69802bf178f2c3e71ad873dc8c41c3dcf439d3ec3ea0d3f38ecfc3e60654b3ec1d4a4be84b2893c2d48e33eeb6af8becd24b33e08db0cbed53bb5bd08c691bea0797dbe1f4f303e8b88ba3ebd4529be3efaac3d008c703ec754fe3ed84a72bed4f1973e246725bb6514f93e42c30b3fa6a5153ce2e1813d1e1e7ebd', '\x651964d819727fcab2215ceb27454278093b4452b98c50f323944ecb2472bcde');
INSERT INTO public.blob_chunks VALUES ('\xa232c4511db755e57f89de1588e9436bc550e52fe15a568e633b2f389e5dcecb', 0, '\x787800bdb5b4c43cd3d2c2bc0f0f8f3b0f0f673d97962e3dd3d2623db5b4343e0000b0bde2e1693db5b4b4396969d53da6a5093ec4c3333d97960abea6a53d3d4b4b63bd0f0fbf3d2d2d153d0f0f9fbc5a5a9a3b787898bdf1f0f0bb0000c03b8887113e88873f3d787868bda6a5d53c1e1e363df1f090bc787850bde2e151bda6a5f33d4b4b5b3c2d2db5bc1e1e0a3ea6a5153ce2e1813d1e1e7ebd', '\xa232c4511db755e57f89de1588e9436bc550e52fe15a568e633b2f389e5dcecb');
INSERT INTO public.blob_chunks VALUES ('\x11fb62614a1c16129c774b5969349090a39c69ad48bd87ba0dce9d52a932eec6', 0, '\x0a240a20ac611c8d9ca8ececd9b46ee67f970cd2a6be542b7def0ab3c88b58ff382e854810070a240a20dfe60614457a2bf1fd68eae05206504f6e310b72cc64ff2b2868a918839f9d42100a', '\x11fb62614a1c16129c774b5969349090a39c69ad48bd87ba0dce9d52a932eec6');
INSERT INTO public.blob_chunks VALUES ('\x7e678f7ce33ff889ab3331f0484e626eeecba146236634064261f2d743915df2', 0, '\xbed7353fcc7de23edc9d2e3e7c7bc13c02bd02bf6c29093fda3315bf641a143fa69807bf3d2db83d5e7c033ea0e060bbfc70a43e0e5dff3ec21b253ff6fb5f3e586ba8be375122be87a2e03efa79d8be64bbbd3ecc9e68be8c595cbd108c4fbe9480afbe3d6d143e9a97fa3e39fd90bebeace73c1eaa683eeb31293f30e996beaa21d23da294b6bd9cb30a3f7477c43e000088bc0000acbd0000b83c', '\x7e678f7ce33ff889ab3331f0484e626eeecba146236634064261f2d743915df2');
INSERT INTO public.blob_chunks VALUES ('\xb7be0ca8e904817457abf9081010aeaf607f24e9d2d1c57aec1bbb2a91d1d559', 0, '\x0a240a2005330c11e0d803110cad948d96ea0436ebc9488610a153b7b95aa298a0275e2d10010a240a20e93893c3b71a4a132bd04b54d779facf1216722c3e9927c9c75129f546932d6d1001', '\xb7be0ca8e904817457abf9081010aeaf607f24e9d2d1c57aec1bbb2a91d1d559');
INSERT INTO public.blobs VALUES ('\x1a4c30a9cb7997acf77a5d4795faaff2d6a13599714794ae724d19187295679e', 191, 0);
INSERT INTO public.blobs VALUES ('\xb90e67343714f8064baf6dfff348d29913ab34bc06adbbd3a23919c97ee40b62', 156, 0);
INSERT INTO public.blobs VALUES ('\x651964d819727fcab2215ceb27454278093b4452b98c50f323944ecb2472bcde', 156, 0);
INSERT INTO public.blobs VALUES ('\xa232c4511db755e57f89de1588e9436bc550e52fe15a568e633b2f389e5dcecb', 156, 0);
INSERT INTO public.blobs VALUES ('\x11fb62614a1c16129c774b5969349090a39c69ad48bd87ba0dce9d52a932eec6', 76, 0);
INSERT INTO public.blobs VALUES ('\x7e678f7ce33ff889ab3331f0484e626eeecba146236634064261f2d743915df2', 156, 0);
INSERT INTO public.blobs VALUES ('\xb7be0ca8e904817457abf9081010aeaf607f24e9d2d1c57aec1bbb2a91d1d559', 76, 0);
INSERT INTO public.claims VALUES ('train', 2, 'a', '\xa255bdded18b1139ba75fa99aff11d009009003090a142ba732a79058772eb73', 10, '{"loss":0.9005088116297163}', '7c3acae0-0c0b-4af2-a3b6-2b5ccbffa88a', 1);
INSERT INTO public.leases VALUES ('leader', 1, 'process 26826 on vm', 0, 13, '7c3acae0-0c0b-4af2-a3b6-2b5ccbffa88a');
INSERT INTO public.partial_chunks VALUES ('train', 2, '7c3acae0-0c0b-4af2-a3b6-2b5ccbffa88a', 0, '\x27000000e1ffffff03000000a08601000200000001000000000000000000244000000074ffffffff000000d8ffffffff0000001fffffffff00000074ffffffff00000087000000000000000500000000000000a1ffffffff0000001fffffffff00000024ffffffff00000005000000000000002d000000000000003c000000000000003c00000000000000f1ffffffff0000005f00000000000000d3ffffffff000000aa000000000000009b00000000000000d3ffffffff000000d3ffffffff00000039feffffff0000008c00000000000000b0ffffffff000000a00000000000000023000000000000002d00000000000000ecffffffff000000e2ffffffff000000d200000000000000d8ffffffff0000000f0000000000000096000000000000800b01000000000000c4ffffffff000000a6ffffffff000080dfffffffff000080d0ffffffff0000001e00000000000080f3ffffffff', '\xac0595aff29565755df98c6d1baaa1f3d29477c1758be10b8163a34750778541');
INSERT INTO public.receipts VALUES ('\xdfe60614457a2bf1fd68eae05206504f6e310b72cc64ff2b2868a918839f9d42', '\x0a20dfe60614457a2bf1fd68eae05206504f6e310b72cc64ff2b2868a918839f9d421205747261696e18012002', '\x77cc07a5a76960051d06fcf66f939ef06617f6184176d780bf7ed1b752b42984d3ecaec69b79ddca3bd454047b89a5547db97fc7f0b04b93eff3eca5c6be1b0b');
INSERT INTO public.receipts VALUES ('\xac611c8d9ca8ececd9b46ee67f970cd2a6be542b7def0ab3c88b58ff382e8548', '\x0a20ac611c8d9ca8ececd9b46ee67f970cd2a6be542b7def0ab3c88b58ff382e85481205747261696e18012002', '\x67431de8ec85148648329dc98d4ceb99977f01c09e2c9c9079059c0f01301cafa4eef8258d8e93e64f34dd9216609315f79be666e0bc8aefa993a786778f1709');
INSERT INTO public.receipts VALUES ('\xa9f904fa7373356f0a8aa00dcd295065b841b26fde968cadd759e070985d6871', '\x0a20a9f904fa7373356f0a8aa00dcd295065b841b26fde968cadd759e070985d68711205747261696e18012801', '\x8f8232f15aafa7547a30ec1bde9d3e1adb4a6f754b44b0d0b3c9824c5630113f371358d04c9612dd11ec1fd341686dcdb0b8c81262bd872e7048b46dcaea3a0b');
INSERT INTO public.receipts VALUES ('\x05330c11e0d803110cad948d96ea0436ebc9488610a153b7b95aa298a0275e2d', '\x0a2005330c11e0d803110cad948d96ea0436ebc9488610a153b7b95aa298a0275e2d12066d6964646c6518012002', '\x3f144a720e7d045dc6a83f6c28754082f238dc96440c150ccf90ac6f3662d5880193e89d76fcab083304e52f30be389678cb70b2802e067ebd9546cd75746c0d');
INSERT INTO public.receipts VALUES ('\xe93893c3b71a4a132bd04b54d779facf1216722c3e9927c9c75129f546932d6d', '\x0a20e93893c3b71a4a132bd04b54d779facf1216722c3e9927c9c75129f546932d6d12066d6964646c6518012002', '\x439311994df32dcdb948904f248cf7d507899485cdc6499233291335fc8eac763817e89b3eded9f918815f49b3e123611bb67e8a547a2e6baa5b05d66cc0900b');
INSERT INTO public.rounds VALUES ('train', 2, 1);
INSERT INTO public.rounds VALUES ('middle', 1, 0);
INSERT INTO public.schema_version VALUES (7);
INSERT INTO public.signing_keys VALUES ('coordinator', '\xd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a');
INSERT INTO public.tasks VALUES ('train', '{"model":"flowers","strategy":{"name":"fedAvgM","serverMomentum":0.5},"plan":{"loss":"cross-entropy","optimizer":{"name":"sgd","learningRate":0.1},"epochs":1,"batchSize":4},"encoding":"mxint8","cohort":{"min":2,"max":2},"collectMs":600000,"pauseMs":0,"rounds":0,"weightMax":100000,"valueMaxExponent":3,"seed":5}', 'running', '{"phase":"Collecting","round":2,"published":1,"version":2,"cohort":["a","b"],"accepted":[],"away":{},"deadlineMs":1795867370520}', '{"updatesAccepted":2,"updatesRejected":1,"rejectedByReason":{"stale-round":1},"bytesUp":0,"bytesDown":1694,"roundsAbandoned":0,"metrics":{"loss":0.03961024763765175}}', '\x4852208f4c3072ef6bf7df2bc323b15c6369fb292e2002a0e45d47aea16b50be');
INSERT INTO public.tasks VALUES ('middle', '{"model":"trees","strategy":{"name":"median"},"plan":{"loss":"cross-entropy","optimizer":{"name":"sgd","learningRate":0.1},"epochs":1,"batchSize":4},"encoding":"mxint8","cohort":{"min":2,"max":2},"collectMs":600000,"pauseMs":0,"rounds":1,"weightMax":100000,"valueMaxExponent":3,"seed":6}', 'finished', '{"phase":"Idle","round":1,"published":1,"version":2,"startAtMs":1795866771203}', '{"updatesAccepted":2,"updatesRejected":0,"rejectedByReason":{},"bytesUp":0,"bytesDown":678,"roundsAbandoned":0,"metrics":{"loss":0.37409889415560826}}', '\xb2b51bcff6f7dfb224ae9095100d8b3d8d508ffcb3a010a4d2eebea42d0ba0db');
INSERT INTO public.versions VALUES ('flowers', 1, '\x0a07666c6f776572731001300152320a0567726170681204667033321a201a4c30a9cb7997acf77a5d4795faaff2d6a13599714794ae724d19187295679e20bf0152340a07776569676874731204667033321a20b90e67343714f8064baf6dfff348d29913ab34bc06adbbd3a23919c97ee40b62209c015a1b0a05696e7075741205666c6f61741a0bffffffffffffffffff010c621c0a066c6f676974731205666c6f61741a0bffffffffffffffffff010370edf78090a234', '\x8d6a95ba7dd6c704eab108864b8a7262892f91b1d74ee510d439b98fb4231af5b9eae9cc12727cf61a2be112a8371636925227cfa6906c7bee3ae49d76a66304', '\x9abb4ea2f9b15078084ac784e7dee51e59269874e65baad705dc34c3f362d069', '\x', 0);
INSERT INTO public.versions VALUES ('flowers', 2, '\x0a07666c6f7765727310021a209abb4ea2f9b15078084ac784e7dee51e59269874e65baad705dc34c3f362d0692205747261696e280130013a076665644176674d40114a2011fb62614a1c16129c774b5969349090a39c69ad48bd87ba0dce9d52a932eec652320a0567726170681204667033321a201a4c30a9cb7997acf77a5d4795faaff2d6a13599714794ae724d19187295679e20bf0152340a07776569676874731204667033321a20651964d819727fcab2215ceb27454278093b4452b98c50f323944ecb2472bcde209c01523a0a0d7365727665722d6d656d6f72791204667033321a20a232c4511db755e57f89de1588e9436bc550e52fe15a568e633b2f389e5dcecb209c015a1b0a05696e7075741205666c6f61741a0bffffffffffffffffff010c621c0a066c6f676974731205666c6f61741a0bffffffffffffffffff01036a0f0a046c6f737311b05e615ccb47a43f70c9f88090a234', '\x7f58c9364c348b2f494bc6fe3372c7f00cd053e40d34c88880fb45e2ea277b5b6d1f55994c7ecbc215096e4f0b2aa46204ce05c700a8e8b14384de80007a1600', '\xede6c371b63a108246fcbd36242c9f33a4b9c34b8c95b8cf1409491fc701b238', '\x9abb4ea2f9b15078084ac784e7dee51e59269874e65baad705dc34c3f362d069', 0);
INSERT INTO public.versions VALUES ('trees', 1, '\x0a0574726565731001300152320a0567726170681204667033321a201a4c30a9cb7997acf77a5d4795faaff2d6a13599714794ae724d19187295679e20bf0152340a07776569676874731204667033321a20b90e67343714f8064baf6dfff348d29913ab34bc06adbbd3a23919c97ee40b62209c015a1b0a05696e7075741205666c6f61741a0bffffffffffffffffff010c621c0a066c6f676974731205666c6f61741a0bffffffffffffffffff0103709af98090a234', '\x7e4718b6672f73cc20c9935ada129a748cd4a985ce24a6d4b18e5c468f9ea3eb11fba557e98dc3b5de64be3d744fdf43c94d7abca17488586f28d7b6b21bad03', '\x7f8248090879e1ed285951c24d0db08cc75b8c936dfd7782f8b481385d1c3bed', '\x', 0);
INSERT INTO public.versions VALUES ('trees', 2, '\x0a05747265657310021a207f8248090879e1ed285951c24d0db08cc75b8c936dfd7782f8b481385d1c3bed22066d6964646c65280130013a066d656469616e40024a20b7be0ca8e904817457abf9081010aeaf607f24e9d2d1c57aec1bbb2a91d1d55952320a0567726170681204667033321a201a4c30a9cb7997acf77a5d4795faaff2d6a13599714794ae724d19187295679e20bf0152340a07776569676874731204667033321a207e678f7ce33ff889ab3331f0484e626eeecba146236634064261f2d743915df2209c015a1b0a05696e7075741205666c6f61741a0bffffffffffffffffff010c621c0a066c6f676974731205666c6f61741a0bffffffffffffffffff01036a0f0a046c6f737311008ff77c3cf1d73f7083fe8090a234', '\x63736d7235a0a84e51df48041a5af2a186dca1b87a16e30b200063d0cf0565f86dbe825f3f4a4900214a612c74339b05badda296fff39bf40d41d05a669e5d03', '\x817a71b7cc01649b49edaa83d7470d6b110ad570bfcb9d98267d4d621d92304d', '\x7f8248090879e1ed285951c24d0db08cc75b8c936dfd7782f8b481385d1c3bed', 0);
ALTER TABLE ONLY public.blob_chunks
    ADD CONSTRAINT blob_chunks_pkey PRIMARY KEY (digest, "position");
ALTER TABLE ONLY public.blobs
    ADD CONSTRAINT blobs_pkey PRIMARY KEY (digest);
ALTER TABLE ONLY public.channels
    ADD CONSTRAINT channels_pkey PRIMARY KEY (model, channel);
ALTER TABLE ONLY public.claims
    ADD CONSTRAINT claims_pkey PRIMARY KEY (task, round, agent_id);
ALTER TABLE ONLY public.leases
    ADD CONSTRAINT leases_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.partial_chunks
    ADD CONSTRAINT partial_chunks_pkey PRIMARY KEY (task, round, part, "position");
ALTER TABLE ONLY public.pins
    ADD CONSTRAINT pins_pkey PRIMARY KEY (model, version);
ALTER TABLE ONLY public.receipts
    ADD CONSTRAINT receipts_pkey PRIMARY KEY (update_id);
ALTER TABLE ONLY public.replicas
    ADD CONSTRAINT replicas_pkey PRIMARY KEY (replica);
ALTER TABLE ONLY public.report_snapshots
    ADD CONSTRAINT report_snapshots_pkey PRIMARY KEY (model);
ALTER TABLE ONLY public.retained_chunks
    ADD CONSTRAINT retained_chunks_pkey PRIMARY KEY (update_id, "position");
ALTER TABLE ONLY public.retained_updates
    ADD CONSTRAINT retained_updates_pkey PRIMARY KEY (update_id);
ALTER TABLE ONLY public.rounds
    ADD CONSTRAINT rounds_pkey PRIMARY KEY (task);
ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (agent_id);
ALTER TABLE ONLY public.signing_keys
    ADD CONSTRAINT signing_keys_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.tasks
    ADD CONSTRAINT tasks_pkey PRIMARY KEY (task);
ALTER TABLE ONLY public.variant_lists
    ADD CONSTRAINT variant_lists_pkey PRIMARY KEY (model, version);
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT versions_digest_key UNIQUE (digest);
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT versions_model_parent_digest_key UNIQUE (model, parent_digest);
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT versions_pkey PRIMARY KEY (model, version);
CREATE INDEX retained_versions ON public.retained_updates USING btree (model, version);
ALTER TABLE ONLY public.blob_chunks
    ADD CONSTRAINT blob_chunks_digest_fkey FOREIGN KEY (digest) REFERENCES public.blobs(digest);
ALTER TABLE ONLY public.retained_chunks
    ADD CONSTRAINT retained_chunks_update_id_fkey FOREIGN KEY (update_id) REFERENCES public.retained_updates(update_id);
ALTER TABLE ONLY public.variant_lists
    ADD CONSTRAINT variant_lists_model_version_fkey FOREIGN KEY (model, version) REFERENCES public.versions(model, version);
