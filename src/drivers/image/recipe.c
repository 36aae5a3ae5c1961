/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in images as a table: adding one is adding a row. */
#include "drivers/image/recipe.h"

#include "drivers/image/image.h"

#define PATH_ENV "\"PATH\":\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\""

/* Debian's own entry point makes the cluster on the first start, as its postgres user; what is
 * asked for by the environment is what the well-known image of that name understands. */
static const char postgres_start[] =
    "#!/bin/sh\n"
    "# Makes the cluster on the first start, then runs the server in the foreground.\n"
    "set -e\n"
    "bin=$(echo /usr/lib/postgresql/*/bin)\n"
    "data=${PGDATA:-/var/lib/postgresql/data}\n"
    "user=${POSTGRES_USER:-postgres}\n"
    "if [ \"$(id -u)\" = 0 ]; then\n"
    "    mkdir -p \"$data\" /run/postgresql\n"
    "    chown -R postgres:postgres \"$data\" /run/postgresql\n"
    "    chmod 0700 \"$data\"\n"
    "    exec setpriv --reuid=postgres --regid=postgres --init-groups \"$0\" \"$@\"\n"
    "fi\n"
    "if [ ! -s \"$data/PG_VERSION\" ]; then\n"
    "    if [ -n \"$POSTGRES_PASSWORD\" ]; then\n"
    "        umask 077\n"
    "        printf '%s' \"$POSTGRES_PASSWORD\" > /tmp/pw.$$\n"
    "        \"$bin/initdb\" -D \"$data\" -U \"$user\" -E UTF8 --locale=C.UTF-8 \\\n"
    "            --auth-local=trust --auth-host=scram-sha-256 --pwfile=/tmp/pw.$$\n"
    "        rm -f /tmp/pw.$$\n"
    "    else\n"
    "        \"$bin/initdb\" -D \"$data\" -U \"$user\" -E UTF8 --locale=C.UTF-8 \\\n"
    "            --auth-local=trust --auth-host=reject\n"
    "    fi\n"
    "    [ -z \"$POSTGRES_PASSWORD\" ] ||\n"
    "        echo 'host all all all scram-sha-256' >> \"$data/pg_hba.conf\"\n"
    "    if [ -n \"$POSTGRES_DB\" ] && [ \"$POSTGRES_DB\" != postgres ]; then\n"
    "        echo \"CREATE DATABASE \\\"$POSTGRES_DB\\\"\" |\n"
    "            \"$bin/postgres\" --single -j -D \"$data\" postgres > /dev/null\n"
    "    fi\n"
    "fi\n"
    "unset POSTGRES_PASSWORD\n"
    "exec \"$bin/postgres\" -D \"$data\" -c listen_addresses='*' \"$@\"\n";

static const char nginx_conf[] = "user www-data;\n"
                                 "worker_processes auto;\n"
                                 "pid /run/nginx.pid;\n"
                                 "error_log stderr notice;\n"
                                 "events { worker_connections 1024; }\n"
                                 "http {\n"
                                 "    include /etc/nginx/mime.types;\n"
                                 "    default_type application/octet-stream;\n"
                                 "    access_log /dev/stdout;\n"
                                 "    sendfile on;\n"
                                 "    keepalive_timeout 65;\n"
                                 "    include /etc/nginx/conf.d/*.conf;\n"
                                 "    server {\n"
                                 "        listen 80 default_server;\n"
                                 "        root /var/www/html;\n"
                                 "        index index.html index.nginx-debian.html;\n"
                                 "    }\n"
                                 "}\n";

/* clang-format off */
static const struct recipe_file nginx_files[] = {
    { "etc/nginx/nginx.conf", nginx_conf },
    { 0 },
};
static const struct recipe_file postgres_files[] = {
    { "usr/local/bin/postgres-start", postgres_start, .mode = 0755 },
    { 0 },
};
static const struct recipe_file python_files[] = {
    { "usr/local/bin/python", .link = "/usr/bin/python3" },
    { 0 },
};

static const struct recipe recipes[] = {
    { "busybox", NULL, "[\"sleep\",\"infinity\"]",
      "{\"PATH\":\"/bin:/sbin:/usr/bin:/usr/sbin\"}", "/", "" },
    { "debian", "", "[\"sleep\",\"infinity\"]", "{" PATH_ENV "}", "/", "" },
    { "nginx", "nginx-light", "[\"nginx\",\"-g\",\"daemon off;\"]", "{" PATH_ENV "}", "/", "", nginx_files },
    { "postgres", "postgresql,util-linux", "[\"postgres-start\"]",
      "{" PATH_ENV ",\"PGDATA\":\"/var/lib/postgresql/data\",\"LANG\":\"C.UTF-8\"}", "/", "", postgres_files },
    { "redis", "redis-server",
      "[\"redis-server\",\"--bind\",\"*\",\"-::*\",\"--protected-mode\",\"no\",\"--dir\",\"/var/lib/redis\"]",
      "{" PATH_ENV "}", "/var/lib/redis", "" },
    { "node", "nodejs", "[\"node\",\"-e\",\"setInterval(()=>{},2147483647)\"]", "{" PATH_ENV "}", "/", "" },
    { "python", "python3,python3-venv", "[\"sleep\",\"infinity\"]",
      "{" PATH_ENV ",\"PYTHONUNBUFFERED\":\"1\"}", "/", "", python_files },
    { 0 },
};

const struct image_recipe image_recipes[] = {
    { "busybox",  "Busybox: a shell and the usual small tools, two megabytes." },
    { "debian",   "Debian's essential packages and apt." },
    { "nginx",    "nginx serving /var/www/html on port 80." },
    { "postgres", "PostgreSQL on port 5432; POSTGRES_PASSWORD opens it to the network." },
    { "redis",    "Redis on port 6379." },
    { "node",     "Node.js." },
    { "python",   "Python 3." },
    { 0 },
};
/* clang-format on */

const struct recipe *recipe_find(const char *name)
{
    for (const struct recipe *r = recipes; r->name; r++)
        if (strcmp(r->name, name) == 0)
            return r;
    return NULL;
}
