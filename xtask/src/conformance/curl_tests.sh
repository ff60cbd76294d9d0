#!/bin/sh
# Runs curl's own tests of HTTP in its folder `tests`. HTTP_PROXY names the proxy, if there is one.
#
#   $1   `direct` or `through`: curl uses the proxy
#   ...  keywords of tests, as `runtests.pl` takes them
set -eu
way=$1
shift
case $way in
  through) set -- -P "$HTTP_PROXY" "$@" ;;
esac
# The runner compares bytes and stops a test at the first that differ. Where it is only what a proxy
# must change (fields of one connection; a line of a head that ended in LF alone) or itself says (the
# answer to CONNECT), this copy of it
# says so and goes on to what the test compares next.
export RUNNER="$PWD/runtests-per-hop.pl"
perl - <<'END'
open my $in, '<', 'runtests.pl' or die;
my $text = join '', <$in>;
my $compares = 'my $result = compareparts($firstref, $secondref);';
my $says = <<'PERL';
    if($result) {
        my @fields = map { without_hop_fields($_) } $firstref, $secondref;
        my @both = map { with_lf($_) } @fields;
        my $same = !compareparts(@fields) ? 'fields' : !compareparts(@both) ? 'line ends' : '';
        if($same) {
            logmsg "PERHOP: $testnum - $same - $subject\n";
            return 0;
        }
    }
PERL
my $per_hop = <<'PERL';
sub without_hop_fields {
    my $text = join '', @{$_[0]};
    $text =~ s/^(?:Connection|Keep-Alive|Proxy-Connection):[^\n]*\n//gmi;
    $text =~ s/^HTTP\/1.1 200 Connection established\r?\n\r?\n//gm;
    return [$text];
}
sub with_lf {
    my $text = join '', @{$_[0]};
    $text =~ s/^((?:HTTP\/1\S* |[\w-]+:)[^\r\n]*)\r?\n(\r?\n)?/"$1\n" . ($2 ? "\n" : '')/gme;
    return [$text];
}
PERL
$text =~ s/(\Q$compares\E\n)/$1$says/ or die 'curl compares in another way now';
$text =~ s/^sub compare \{/${per_hop}sub compare {/m or die;
open my $out, '>', $ENV{RUNNER} or die;
print $out $text;
END
export PATH="$PWD/../../stunnel/bin:$PATH"
# No valgrind, go on after a failure, a line with the verdict for each test, four at once. Into a
# file, as a server that was left behind would hold a pipe open.
perl -I. "$RUNNER" -n -a -am -j4 "$@" >per-hop.out 2>&1 || true
cat per-hop.out
