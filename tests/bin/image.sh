# shellcheck shell=bash
# Builds one container image without a daemon and without a registry: a container file in, an OCI archive out.
#
# What must hold: equal input makes an equal archive (no time, no name of this machine goes in), and the store that
# buildah needs on the way is a folder of ours that goes when the script ends.

image_store=$root/.cluster/buildah
# Run by root, buildah notes what it pushed in a place that no flag moves.
notes=/var/lib/containers/cache
remove_image_store() {
  if [ -e "$image_store/no-notes-before" ]; then
    rm -f "$notes"/blob-info-cache-v1.*
    rmdir "$notes" "$(dirname "$notes")" 2>/dev/null || true
  fi
  rm -rf "$image_store"
}

buildah_here() {
  buildah --root "$image_store/root" --runroot "$image_store/run" --storage-driver vfs "$@"
}

# make_image NAME CONTEXT ARCHIVE [LABEL=VALUE...]: the container file stands in the context.
make_image() {
  local name=$1 context=$2 archive=$3 label labels=()
  shift 3
  for label in "$@"; do labels+=(--label "$label"); done
  mkdir -p "$image_store" "$(dirname "$archive")"
  [ -e "$notes" ] || touch "$image_store/no-notes-before"
  # Nothing is pulled, so no rule about whose signature to trust is needed; buildah wants a file all the same.
  echo '{"default":[{"type":"insecureAcceptAnything"}]}' >"$image_store/policy.json"
  export TMPDIR=$image_store
  buildah_here bud --isolation chroot --timestamp 0 --no-cache --signature-policy "$image_store/policy.json" \
    "${labels[@]}" --tag "$name" --file "$context/Containerfile" "$context"
  rm -f "$archive.new"
  buildah_here push --quiet --signature-policy "$image_store/policy.json" "$name" "oci-archive:$archive.new:$name"
  mv "$archive.new" "$archive"
}
