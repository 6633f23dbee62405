# Writes NAME start and NAME stop into the file $JOURNAL: journal.sh NAME
echo "$1 start" >>"$JOURNAL"
trap 'echo "$1 stop" >>"$JOURNAL"; echo "bye from $1"; exit 0' TERM
echo "$1 is up"
while :; do
  sleep 1000 &
  wait $!
done
