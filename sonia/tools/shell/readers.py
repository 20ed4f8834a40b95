"""Programs that only read, and the options with which they do.

Left out on purpose: options that write a file, run a program, load a configuration, read a list
of files, follow a file that grows, or page. Interpreters, wrappers (`env`, `xargs`, `timeout`),
pagers and `git`, whose repository may name programs to run, are not here at all.
"""

from __future__ import annotations

import itertools

from sonia.tools.shell.options import Operands, Options


def _of(
    short: str = "",
    long: str = "",
    *,
    operands: Operands = "paths",
    most: int | None = None,
    numbers: bool = False,
) -> Options:
    """`n:` is a short option with a value; `lines=` a long one with, `color?` with or without."""
    valued = {letter for letter, colon in itertools.pairwise(short) if colon == ":"}
    words = long.split()
    return Options(
        short="".join(letter for letter in short if letter != ":" and letter not in valued),
        short_valued="".join(sorted(valued)),
        long=frozenset(word for word in words if word[-1] not in "=?"),
        long_valued=frozenset(word[:-1] for word in words if word[-1] == "="),
        long_optional=frozenset(word[:-1] for word in words if word[-1] == "?"),
        operands=operands,
        most=most,
        numbers=numbers,
    )


_SUMS = _of("bctwz", "binary check text tag zero ignore-missing quiet status strict warn")
_GREP = _of(
    "EFGPivwxcLlqshHnobaIrRyTUZzA:B:C:m:e:d:D:",
    "extended-regexp fixed-strings basic-regexp perl-regexp ignore-case no-ignore-case invert-match"
    " word-regexp line-regexp count files-without-match files-with-matches quiet silent"
    " no-messages with-filename no-filename line-number only-matching byte-offset text recursive"
    " dereference-recursive initial-tab null null-data line-buffered binary color? colour?"
    " after-context= before-context= context= max-count= regexp= include= exclude= exclude-dir="
    " binary-files= label= directories=",
    operands="pattern",
    numbers=True,
)
_BASE = _of("diw:D", "decode ignore-garbage wrap=", most=1)

READERS: dict[str, Options] = {
    "cat": _of(
        "AbeEnstTuv",
        "show-all number-nonblank show-ends number squeeze-blank show-tabs show-nonprinting",
    ),
    "tac": _of("bs:", "before separator="),
    "rev": _of(),
    "nl": _of(
        "b:d:f:h:i:l:n:ps:v:w:",
        "body-numbering= section-delimiter= footer-numbering= header-numbering= line-increment="
        " join-blank-lines= number-format= no-renumber number-separator= starting-line-number="
        " number-width=",
    ),
    "ls": _of(
        "aAbBcCdfFgGhHiIklLmnNopqQrRsStuUvw:T:xXZ1I:",
        "all almost-all author escape block-size= ignore-backups color? directory classify?"
        " file-type format= full-time group-directories-first no-group human-readable si"
        " dereference dereference-command-line hide= hyperlink? indicator-style= inode ignore="
        " kibibytes literal numeric-uid-gid hide-control-chars show-control-chars quote-name"
        " quoting-style= reverse recursive size sort= time= time-style= tabsize= width= context"
        " zero",
    ),
    "head": _of("qvzn:c:", "lines= bytes= quiet silent verbose zero-terminated", numbers=True),
    "tail": _of("qvzn:c:", "lines= bytes= quiet silent verbose zero-terminated", numbers=True),
    "wc": _of("clmLw", "bytes chars lines max-line-length words total="),
    "od": _of(
        "A:j:N:t:w:S:vabcdfiloshx",
        "address-radix= skip-bytes= read-bytes= format= output-duplicates endian= width? strings?",
    ),
    "hexdump": _of("bcCdoxvn:s:", "one-byte-octal one-byte-char canonical two-bytes-decimal"
                   " two-bytes-octal two-bytes-hex no-squeezing length= skip="),
    "strings": _of("afn:t:e:", "all data print-file-name bytes= radix= encoding="),
    "file": _of("bhiLkNrs0E", "brief mime mime-type mime-encoding dereference no-dereference"
                " keep-going no-pad raw print0 extension apple"),
    "stat": _of("Lftc:", "dereference file-system format= printf= terse cached="),
    "du": _of(
        "0aAbBchHkLlmSsxd:t:B:D",
        "null all apparent-size block-size= bytes total dereference-args max-depth= human-readable"
        " inodes dereference count-links no-dereference separate-dirs si summarize threshold="
        " time? time-style= one-file-system exclude=",
    ),
    "df": _of(
        "aB:hHiklPTt:x:",
        "all block-size= human-readable si inodes local portability print-type type="
        " exclude-type= total output? no-sync",
    ),
    "tree": _of(
        "adflxL:P:I:pugshDFrtUcvinACSNqQ",
        "noreport charset= filelimit= prune dirsfirst gitignore inodes device du si timefmt= sort="
        " matchdirs ignore-case fromfile metafirst",
    ),
    "grep": _GREP, "egrep": _GREP, "fgrep": _GREP,
    "rg": _of(
        "AiSsvwxclnNHIoUFPuLaqpeA:B:C:m:g:t:T:e:d:r:j:.0",
        "ignore-case smart-case case-sensitive invert-match word-regexp line-regexp count"
        " count-matches files files-with-matches files-without-match line-number no-line-number"
        " with-filename no-filename only-matching multiline fixed-strings pcre2 unrestricted"
        " follow text quiet pretty hidden no-ignore no-ignore-vcs no-heading heading column"
        " vimgrep json stats trim null type-list sort= sortr= after-context= before-context="
        " context= max-count= glob= iglob= type= type-not= regexp= max-depth= replace= color="
        " max-columns= max-filesize= threads= no-config",
        operands="pattern",
    ),
    "sort": _of(
        "bdfgiMhnRrVcCmsuzk:t:",
        "ignore-leading-blanks dictionary-order ignore-case general-numeric-sort ignore-nonprinting"
        " month-sort human-numeric-sort numeric-sort random-sort reverse version-sort check?"
        " merge stable unique zero-terminated key= field-separator= sort= parallel=",
    ),
    # a second name is written to
    "uniq": _of("cdDiuzf:s:w:", "count repeated all-repeated? group? ignore-case unique"
                " zero-terminated skip-fields= skip-chars= check-chars=", most=1),
    "cut": _of("b:c:d:f:nsz", "bytes= characters= delimiter= fields= complement only-delimited"
               " output-delimiter= zero-terminated"),
    "paste": _of("d:sz", "delimiters= serial zero-terminated"),
    "tr": _of("cCdst", "complement delete squeeze-repeats truncate-set1", operands="text", most=2),
    "comm": _of("123z", "check-order nocheck-order total output-delimiter= zero-terminated"),
    "join": _of("ia:e:1:2:j:o:t:v:z", "ignore-case check-order nocheck-order header"
                " zero-terminated"),
    "diff": _of(
        "abBcdeEiInqrNpstTuwyZU:C:W:x:F:I:L:",
        "normal brief report-identical-files context? unified? ed rcs side-by-side width="
        " left-column suppress-common-lines show-c-function show-function-line= label="
        " expand-tabs initial-tab recursive new-file ignore-case ignore-tab-expansion"
        " ignore-trailing-space ignore-space-change ignore-all-space ignore-blank-lines"
        " ignore-matching-lines= text strip-trailing-cr minimal speed-large-files color?"
        " no-dereference exclude= suppress-blank-empty tabsize= horizon-lines="
        " ignore-file-name-case unidirectional-new-file",
        numbers=True,
    ),
    "cmp": _of("bi:ln:s", "print-bytes ignore-initial= verbose bytes= quiet silent"),
    "column": _of("tns:c:xo:N:R:H:O:T:E:W:JeLdl:", "table separator= output-width= fillrows"
                  " output-separator= table-columns= table-right= table-hide= table-order="
                  " table-truncate= table-noextreme= table-wrap= json table-name="
                  " table-noheadings keep-empty-lines table-empty-lines table-columns-limit="
                  " columns= input-separator="),
    "fold": _of("bsw:", "bytes spaces width="),
    "fmt": _of("cstup:w:g:", "crown-margin prefix= split-only tagged-paragraph uniform-spacing"
               " width= goal=", numbers=True),
    "pr": _of("aJmtTdrFn:o:l:w:W:h:s:i:e:", "columns= across double-space form-feed header="
              " merge number-lines? indent= omit-header omit-pagination no-file-warnings length="
              " width= page-width=", numbers=True),
    "expand": _of("it:", "initial tabs=", numbers=True),
    "unexpand": _of("at:", "all first-only tabs=", numbers=True),
    "tsort": _of(),
    "md5sum": _SUMS, "sha1sum": _SUMS, "sha224sum": _SUMS, "sha256sum": _SUMS,
    "sha384sum": _SUMS, "sha512sum": _SUMS,
    "b2sum": _of("bctwzl:", "binary check text tag zero ignore-missing quiet status strict warn"
                 " length="),
    "cksum": _of("a:l:cz", "algorithm= untagged tag raw base64 length= check zero"),
    "sum": _of("rs", "sysv"),
    "base64": _BASE, "base32": _BASE,
    "basename": _of("as:z", "multiple suffix= zero", operands="text"),
    "dirname": _of("z", "zero", operands="text"),
    "realpath": _of("emLPqsz", "canonicalize-existing canonicalize-missing logical physical quiet"
                    " strip no-symlinks zero relative-to= relative-base="),
    "readlink": _of("femnqsvz", "canonicalize canonicalize-existing canonicalize-missing"
                    " no-newline quiet silent verbose zero"),
    "pwd": _of("LP", "logical physical", operands="none"),
    "echo": _of("neE", operands="text"),
    "printf": _of(operands="text"),
    "true": _of(operands="none"),
    "false": _of(operands="none"),
    "seq": _of("f:s:w", "format= separator= equal-width", operands="text", most=3, numbers=True),
    "factor": _of("h", "exponents", operands="text"),
    "expr": _of(operands="text"),
    "numfmt": _of("d:z", "delimiter= field= format= from= from-unit= grouping header? invalid="
                  " padding= round= suffix= to= to-unit= zero-terminated", operands="text"),
    "cal": _of("13ymjsn:A:B:wY", "one three sunday monday julian year months= week? color? twelve",
               operands="text"),
    "ncal": _of("13ymjsn:A:B:whbeoMSCN", operands="text"),
    "uname": _of("asnrvmpio", "all kernel-name nodename kernel-release kernel-version machine"
                 " processor hardware-platform operating-system", operands="none"),
    "arch": _of(operands="none"),
    "nproc": _of("", "all ignore=", operands="none"),
    "hostname": _of("aAdfiIsy", "alias all-fqdns domain fqdn long ip-address all-ip-addresses"
                    " short", operands="none"),
    "hostid": _of(operands="none"),
    "whoami": _of(operands="none"),
    "logname": _of(operands="none"),
    "id": _of("agGnruzZ", "group groups name real user zero context", operands="text", most=1),
    "groups": _of(operands="text"),
    "users": _of(operands="none"),
    "who": _of("abdHlmpqrstTuw", "all boot dead heading login count process runlevel short time"
               " mesg message writable users lookup", operands="none"),
    "w": _of("hfsioup", "no-header no-current short from old-style ip-addr pids",
             operands="text", most=1),
    "uptime": _of("ps", "pretty since", operands="none"),
    "free": _of("bkmghtwlv", "bytes kilo mega giga tera kibi mebi gibi tebi human si lohi total"
                " wide line committed", operands="none"),
    "vmstat": _of("afmndDtw", "active forks slabs one-header stats disk disk-sum timestamp wide",
                  operands="none"),
    "lscpu": _of("abcexyJBC:p:", "all online bytes offline caches? json extended? parse? physical"
                 " hex output-all", operands="none"),
    "lsblk": _of("abdDfilmnoOpPrsStzJM", "all bytes discard nodeps fs ascii json list topology"
                 " noheadings output-all paths pairs raw inverse scsi perms merge zoned",
                 operands="none"),
    "lsmod": _of(operands="none"),
    "lspci": _of("vknDxtmqP", operands="none"),
    "lsusb": _of("vt", "verbose tree", operands="none"),
    "last": _of("adFiRwxn:s:t:", "hostlast dns fulltimes ip nohostname fullnames system limit="
                " since= until= time-format=", operands="text", numbers=True),
    "findmnt": _of("lrJnbDo:t:", "list raw json noheadings bytes df output= types=",
                   operands="text"),
    "lsattr": _of("Radvlp"),
    "getfacl": _of("acedspRLPtn"),
    "namei": _of("xmolnv", "mountpoints modes owners long nosymlinks vertical"),
    "tty": _of("s", "silent quiet", operands="none"),
    "locale": _of("ackm", "all-locales category-name keyword-name charmaps",
                  operands="text"),
    "getconf": _of("a", operands="text", most=1),
    "which": _of("as", operands="text"),
    "whereis": _of("bmsu", operands="text"),
    "whatis": _of("lrwd", "long regex wildcard debug", operands="text"),
    "apropos": _of("elrwad", "exact long regex wildcard and", operands="text"),
    "readelf": _of("ahlStengsuVdWrcADL", "all file-header program-headers segments"
                   " section-headers sections section-groups section-details headers syms symbols"
                   " dyn-syms notes relocs unwind dynamic version-info arch-specific archive-index"
                   " use-dynamic histogram wide lto-syms"),
    "nm": _of("aABCDgnoPprSsuvf", "debug-syms print-file-name demangle? dynamic extern-only"
              " numeric-sort no-sort portability print-size print-armap reverse-sort size-sort"
              " undefined-only defined-only"),
    "size": _of("ABdoxt", "format= radix= totals common"),
    "fd": _of(
        "HIuisagLp0t:e:E:d:S:c:qF",
        "hidden no-ignore no-ignore-vcs unrestricted case-sensitive ignore-case glob regex"
        " fixed-strings absolute-path follow full-path print0 type= extension="
        " exclude= max-depth= min-depth= exact-depth= size= changed-within= changed-before="
        " color= max-results= quiet",
        operands="pattern",
    ),
    "zipinfo": _of("12smlvhtzTZ"),
    "pgrep": _of("aflnovxcwiu:U:t:g:P:", "list-full full list-name newest oldest inverse exact"
                 " count ignore-case euid= uid= parent=", operands="text"),
    "pidof": _of("scx", operands="text"),
    "pstree": _of("aAcghlnpstuUZ", "arguments ascii compact-not highlight-all long numeric-sort"
                  " show-pids show-parents thread-names uid-changes unicode", operands="text"),
    "lsns": _of("Jlnr", "json list noheadings raw", operands="none"),
    "iconv": _of("f:t:lc", "from-code= to-code= list"),
    "xxd": _of("abeEpiuc:g:l:s:o:", most=1),  # a second name is written to
    "shuf": _of("i:n:rez", "input-range= head-count= repeat echo zero-terminated"),
    "look": _of("adft:", operands="text", most=1),
    "colrm": _of(operands="text", most=2),
    "ul": _of("i"),
}  # fmt: skip
READERS["fdfind"] = READERS["fd"]
