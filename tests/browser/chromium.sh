# Is there a Chromium? Else Debian's and Ubuntu's package is installed, where that may be done here.
set -eu
[ -z "${STREAMGAUGE_CHROME:-}" ] || exit 0
for name in chromium chromium-browser google-chrome chrome; do
    command -v "$name" >/dev/null && exit 0
done
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -q && exec apt-get install -y -q chromium fonts-dejavu-core
fi
echo "make test-browser needs Chromium or Chrome. Install one (apt-get install chromium), or say where it is:" >&2
echo "    make test-browser STREAMGAUGE_CHROME=/path/to/chrome" >&2
exit 1
