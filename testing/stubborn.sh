# Takes no notice of SIGTERM, and neither do its children.
trap 'echo "no thanks"' TERM
trap '' HUP INT
echo "ready, PID $$"
while :; do
  sleep 0.2
done
