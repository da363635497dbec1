#!/usr/bin/env bash
# Ceph's gateway as a real S3 server on 127.0.0.1:7480, its data in memory; up in a quarter of a minute.
# Needs Debian's radosgw ceph-mon ceph-mgr ceph-osd, and root. `tests/radosgw.sh stop` ends it.
set -euo pipefail
folder=/tmp/latent-study-ceph
export CEPH_CONF=$folder/ceph.conf
for daemon in radosgw ceph-osd ceph-mgr ceph-mon; do
  if [ -f "$folder/$daemon.pid" ]; then kill -9 "$(cat "$folder/$daemon.pid")" || true; fi
done 2>/dev/null
rm -rf "$folder"
if [ "${1:-start}" = stop ]; then exit; fi

mkdir -p "$folder"/{mon,mgr,osd,rgw}
cluster=$(cat /proc/sys/kernel/random/uuid) osd=$(cat /proc/sys/kernel/random/uuid)
monitor='[v2:127.0.0.1:13300,v1:127.0.0.1:16789]'
cat > "$CEPH_CONF" <<END
[global]
fsid = $cluster
mon host = $monitor
auth cluster required = none
auth service required = none
auth client required = none
# The gateway asks for an encrypted connection, which there is not without authentication.
ms mon client mode = crc
ms bind ipv6 = false
public addr = 127.0.0.1
osd objectstore = memstore
memstore device bytes = 4294967296
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon max pg per osd = 1000
run dir = $folder
admin socket = $folder/\$name.asok
log file = $folder/\$name.log
mon data = $folder/mon
mgr data = $folder/mgr
osd data = $folder/osd
rgw data = $folder/rgw
rgw frontends = beast endpoint=127.0.0.1:7480
END
monmaptool --create --fsid "$cluster" --addv a "$monitor" "$folder/monmap"
ceph-mon --mkfs -i a --monmap "$folder/monmap"
ceph-mon -i a --pid-file "$folder/ceph-mon.pid"
timeout 30 ceph osd new "$osd"
ceph-mgr -i x --pid-file "$folder/ceph-mgr.pid"
ceph-osd -i 0 --mkfs --osd-uuid "$osd"
ceph-osd -i 0 --pid-file "$folder/ceph-osd.pid"
timeout 60 radosgw-admin user create --uid=study --display-name=study \
  --access-key=anyone --secret=anything > "$folder/user.json"
radosgw -n client.rgw --pid-file "$folder/radosgw.pid"
timeout 60 bash -c 'until curl --silent --output /dev/null http://127.0.0.1:7480; do sleep 0.5; done'
