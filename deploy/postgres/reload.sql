-- The server reads a renewed certificate only when it is told to; a leaf is renewed hours before it ends.
SELECT pg_reload_conf() \watch 600
