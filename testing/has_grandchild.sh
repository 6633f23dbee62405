# Leaves the work to a child of its own, which takes no notice of SIGTERM, and ends at SIGTERM itself.
trap 'exit 0' TERM
(
  trap '' TERM
  echo "up"
  while :; do sleep 0.2; done
) &
echo "grandchild $!"
wait
