#!/bin/sh
# Debian's Chromium, for the tests that look at the built book: installed where it is missing and may be.
# Without it those tests skip, saying so.
command -v chromium >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "installing chromium for the tests of the built book"
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null && exit 0
fi
echo "no chromium: the tests that look at the built book will skip" >&2
