-- Once, on an empty volume: a role and a database a service, which nobody else may enter.
-- Passwords are read by the server itself, so that none stands in a variable or an argument.
\set ON_ERROR_STOP on
SELECT format('CREATE ROLE %I LOGIN PASSWORD %L', name,
              trim(both E' \n' from pg_read_file('/run/secrets/postgres_' || name || '_password')))
  FROM unnest(ARRAY['user', 'inventory', 'order', 'payment', 'notification', 'sandbox_provider']) AS name
\gexec
SELECT format('CREATE DATABASE %I OWNER %I ENCODING ''UTF8'' LOCALE ''C'' TEMPLATE template0', name, name)
  FROM unnest(ARRAY['user', 'inventory', 'order', 'payment', 'notification', 'sandbox_provider']) AS name
\gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', name)
  FROM unnest(ARRAY['user', 'inventory', 'order', 'payment', 'notification', 'sandbox_provider']) AS name
\gexec
