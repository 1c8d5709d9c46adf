# shellcheck shell=sh
# A driver that stays, in POSIX sh, with awk, sed, tr and iconv. The contract is docs/protocols/driver.md.
#
#     . /usr/share/countersign/countersign-driver.sh
#     login() {
#         if [ "$stored" = "${#secret}" ]; then accept; else refuse "wrong length"; fi
#     }
#     serve
#
# One login at a time: configure `logins = 1`. In `login` there are $user, $secret, $stored (empty: nothing), $now, and
#
#     accept [GROUP…]           yes, in these groups (100, or *100 for an administrator)
#     refuse REASON             no; the reason is for the operator, without secrets
#     fail REASON               it could not be found out
#     can_ask KIND              whether a question of this kind can be asked
#     ask NAME KIND PROMPT      asks, and sets $answer; status 1 if the login was cancelled or the answer declined
#     log SEVERITY TEXT         a line for the server's log (error, warn, info, debug)
#
# A login that gets none of the first three is failed. What a shell cannot hold in a variable, a NUL, refuses the login
# before it comes here. Secrets are given to no command as an argument.

# A JSON object as assignments for the shell: type, id, user, …; asks as a list with blanks; answers as answer_NAME.
cs_parse() {
    LC_ALL=C awk '
    function fault() { print "m_type=malformed"; bad = 1; exit }
    function blank() { while (substr(s, p, 1) ~ /[ \t\r]/) p++ }
    function hex(t,  i, n, d) {
        n = 0
        for (i = 1; i <= 4; i++) {
            d = index("0123456789abcdef", tolower(substr(t, i, 1))) - 1
            if (d < 0 || length(t) != 4) fault()
            n = n * 16 + d
        }
        return n
    }
    function utf8(n) {
        if (n < 128) return sprintf("%c", n)
        if (n < 2048) return bytes[192 + int(n / 64)] bytes[128 + n % 64]
        if (n < 65536) return bytes[224 + int(n / 4096)] bytes[128 + int(n / 64) % 64] bytes[128 + n % 64]
        return bytes[240 + int(n / 262144)] bytes[128 + int(n / 4096) % 64] bytes[128 + int(n / 64) % 64] bytes[128 + n % 64]
    }
    function text(  out, c, n, low) {
        if (substr(s, p, 1) != "\"") fault()
        p++
        out = ""
        while (!bad) {
            # What needs no decoding, in one piece.
            if (match(substr(s, p), /^[^"\\]+/)) { out = out substr(s, p, RLENGTH); p += RLENGTH }
            c = substr(s, p, 1); p++
            if (c == "\"") return out
            if (c != "\\") fault()
            c = substr(s, p, 1); p++
            if (c == "n") out = out "\n"
            else if (c == "t") out = out "\t"
            else if (c == "r") out = out "\r"
            else if (c == "b") out = out "\b"
            else if (c == "f") out = out "\f"
            else if (c == "\"" || c == "\\" || c == "/") out = out c
            else if (c == "u") {
                n = hex(substr(s, p, 4)); p += 4
                if (n >= 55296 && n < 56320) {
                    if (substr(s, p, 2) != "\\u") fault()
                    low = hex(substr(s, p + 2, 4)); p += 6
                    n = 65536 + (n - 55296) * 1024 + low - 56320
                }
                if (n == 0) nul = 1; else out = out utf8(n)
            } else fault()
        }
        return out
    }
    # A text, or a number, true, false, null as they are.
    function scalar(  out) {
        if (substr(s, p, 1) == "\"") return text()
        if (!match(substr(s, p), /^[-+.0-9a-zA-Z]+/)) fault()
        out = substr(s, p, RLENGTH); p += RLENGTH
        return out == "null" ? "" : out
    }
    function set(name, value) {
        if (name !~ /^[A-Za-z0-9_.-]+$/) return
        gsub(/[.-]/, "_", name)
        # Inside of single quotes only they mean anything.
        gsub(/\047/, "\047\\\047\047", value)
        print "m_" name "=\047" value "\047"
    }
    function object(prefix,  name, c) {
        p++; blank()
        if (substr(s, p, 1) == "}") { p++; return }
        while (!bad) {
            blank(); name = prefix text(); blank()
            if (substr(s, p, 1) != ":") fault()
            p++; blank()
            c = substr(s, p, 1)
            if (c == "{") object(name == "answers" ? "answer_" : "other_")
            else if (c == "[") set(name, array())
            else set(name, scalar())
            blank(); c = substr(s, p, 1); p++
            if (c == "}") return
            if (c != ",") fault()
        }
    }
    function array(  out, c) {
        p++; blank(); out = " "
        if (substr(s, p, 1) == "]") { p++; return out }
        while (!bad) {
            blank(); c = substr(s, p, 1)
            if (c == "{") object("other_")
            else if (c == "[") array()
            else out = out scalar() " "
            blank()
            c = substr(s, p, 1); p++
            if (c == "]") return out
            if (c != ",") fault()
        }
    }
    BEGIN { for (i = 128; i < 256; i++) bytes[i] = sprintf("%c", i) }
    { s = $0; p = 1; blank(); if (substr(s, p, 1) != "{") fault(); object(""); if (nul) print "m_nul=1" }
    '
}

# A text as it stands in JSON, between its quotes.
cs_text() {
    printf '%s' "$1" | tr '\000-\037\177' ' ' | iconv -c -f UTF-8 -t UTF-8 | sed 's/[\\"]/\\&/g'
}

cs_read() {
    IFS= read -r cs_line <&3 || exit 0
    m_type='' m_id='' m_user='' m_secret='' m_stored='' m_now='' m_asks='' m_nul=''
    cs_assignments=$(printf '%s\n' "$cs_line" | cs_parse; printf x)
    cs_line=''
    # Names are of letters, digits and `_`, and what they are given is between single quotes.
    eval "${cs_assignments%x}"
    cs_assignments=''
    if [ "$m_type" = malformed ]; then
        echo "ERROR: what the server says is no message" >&2
        exit 1
    fi
}

cs_answer() {
    [ -z "$cs_answered" ] || return 0
    cs_answered=1
    if [ -n "$cs_cancelled" ]; then
        printf '{"type":"cancelled","id":%s}\n' "$cs_login" >&4
    else
        printf '{"type":"%s","id":%s%s}\n' "$1" "$cs_login" "$2" >&4
    fi
}

accept() {
    cs_groups=''
    for cs_group in "$@"; do
        cs_groups="$cs_groups${cs_groups:+,}\"$(cs_text "$cs_group")\""
    done
    cs_answer accept "${cs_groups:+,\"groups\":[$cs_groups]}"
}

refuse() { cs_answer refuse ",\"reason\":\"$(cs_text "$1")\""; }

fail() { cs_answer fail ",\"reason\":\"$(cs_text "$1")\""; }

can_ask() {
    case $cs_can in
    *" $1 "*) return 0 ;;
    *) return 1 ;;
    esac
}

ask() {
    answer=''
    [ -z "$cs_cancelled" ] || return 1
    cs_name=$(printf '%s' "$1" | tr -c 'A-Za-z0-9_' _)
    printf '{"type":"ask","id":%s,"round":{"questions":[{"name":"%s","kind":"%s","prompt":"%s"}]}}\n' \
        "$cs_login" "$(cs_text "$1")" "$(cs_text "$2")" "$(cs_text "$3")" >&4
    while :; do
        eval "m_answer_$cs_name=''"
        cs_read
        case $m_type in
        answers)
            if [ -n "$m_nul" ]; then
                refuse "an answer has a NUL, which a shell cannot hold"
                return 1
            fi
            eval "answer=\$m_answer_$cs_name m_answer_$cs_name=''"
            [ -n "$answer" ]
            return
            ;;
        cancel)
            if [ "$m_id" = "$cs_login" ]; then
                cs_cancelled=1
                return 1
            fi
            ;;
        login)
            # It is not asked for more than one.
            printf '{"type":"fail","id":%s,"reason":"it is busy; configure logins = 1"}\n' "$m_id" >&4
            ;;
        esac
    done
}

log() {
    printf '{"type":"log","severity":"%s","text":"%s"}\n' "$(cs_text "$1")" "$(cs_text "$2")" >&4
}

serve() {
    # What `login` runs reads and writes neither by mistake.
    exec 3<&0 4>&1 </dev/null >&2
    while :; do
        cs_read
        case $m_type in
        hello) printf '{"type":"hello","version":1}\n' >&4 ;;
        login)
            cs_login=$m_id cs_can=$m_asks cs_answered='' cs_cancelled=''
            # shellcheck disable=SC2034 # for `login`
            user=$m_user secret=$m_secret stored=$m_stored now=$m_now
            m_secret='' m_stored=''
            if [ -n "$m_nul" ]; then
                refuse "a NUL, which a shell cannot hold"
            else
                login
                fail "it did not answer"
            fi
            # shellcheck disable=SC2034
            secret='' stored=''
            ;;
        # A login that is cancelled here is one that was answered.
        esac
    done
}
