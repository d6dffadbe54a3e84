# Files of tests, and arrays as NPY files.
package Npy;
use strict;
use warnings;
use Exporter qw(import);
our @EXPORT = qw(slurp spew npy);

sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die "$f: $!"; print $h $t; close $h or die; return; }
# The type as in the header ('<f4'), the shape as Python has it ('3, 4').
sub npy {
    my ($file, $type, $shape, $data) = @_;
    my $head = "{'descr': '$type', 'fortran_order': False, 'shape': ($shape), }";
    $head .= ' ' x (117 - length $head) . "\n";
    spew($file, "\x93NUMPY\1\0" . pack('v', length $head) . $head . $data);
    return;
}
1;
