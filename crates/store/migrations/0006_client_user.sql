-- The name that a client said to the proxy, where clients have to say who they are.
ALTER TABLE client_connections ADD COLUMN client_user TEXT;
