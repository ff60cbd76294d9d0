#!/bin/sh
# Fetches the source of curl from Debian and builds curl and its tests. Nothing is installed.
#
#   $1   the folder to do it in
#
# It comes from Debian's testing branch, where the test servers end most lines of a head in CRLF. In
# those up to 8.15 nearly all end in LF alone, and nearly every test would differ by that.
set -eu
mkdir -p "$1/lists/partial"
cd "$1"
apt() {
  apt-get -o Dir::Etc::SourceList="$PWD/testing.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$PWD/lists" -o APT::Sandbox::User=root "$@"
}
key=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb-src [signed-by=$key] http://deb.debian.org/debian testing main" >testing.list
apt update
apt source --download-only curl
tar --no-same-owner -xzf curl_*.orig.tar.gz
rm -rf source
mv curl-[0-9]* source
cd source
# Without what the tests of HTTP do not use.
./configure --with-openssl --disable-shared --without-libpsl --disable-ldap --disable-docs
make -j2
make -j2 -C tests
# The key of the authority that the test servers have their certificates from; oriel uses it too.
chmod 600 tests/certs/test-ca.key
# stunnel is what those servers speak TLS with. It is of the Debian that runs here.
rm -rf ../stunnel
mkdir -p ../stunnel/bin
cd ../stunnel
apt-get download stunnel4 libwrap0
for package in *.deb; do
  dpkg -x "$package" .
done
cat >bin/stunnel <<END
#!/bin/sh
LD_LIBRARY_PATH=$(echo "$PWD"/usr/lib/*-linux-gnu) exec "$PWD/usr/bin/stunnel4" "\$@"
END
chmod +x bin/stunnel
touch ../built
