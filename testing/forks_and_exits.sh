# Starts a process in the background and ends with status 0: forks_and_exits.sh
sleep 1000 &
echo "left $! behind"
