# What `cmake --install` puts where, and the Debian package, for the target's
# release; tools/build-deb builds it.
set(package_dir ${CMAKE_CURRENT_LIST_DIR})

foreach(program streamd streamctl bootagent)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION sbin)
  endif()
endforeach()
install(PROGRAMS bootagent/mkimage/bootagent-mkimage DESTINATION sbin)
install(PROGRAMS bootagent/mkimage/agent/hook bootagent/mkimage/agent/script
  DESTINATION share/bootstream/agent)
install(FILES bootagent/mkimage/agent/modules bootagent/mkimage/boot.ipxe
  DESTINATION share/bootstream/agent)

install(PROGRAMS initramfs/hooks/bootstream
  DESTINATION share/initramfs-tools/hooks)
install(FILES initramfs/scripts/bootstream
  DESTINATION share/initramfs-tools/scripts)
foreach(phase local-top local-block local-bottom)
  install(PROGRAMS initramfs/scripts/${phase}/bootstream
    DESTINATION share/initramfs-tools/scripts/${phase})
endforeach()
install(PROGRAMS initramfs/hooks/post-update
  DESTINATION /etc/initramfs/post-update.d RENAME bootstream)
install(PROGRAMS initramfs/anchor-exists initramfs/report-health
    initramfs/recovery/recovery-set
  DESTINATION lib/bootstream)
install(DIRECTORY DESTINATION /etc/bootstream/health.d)
install(DIRECTORY DESTINATION /etc/bootstream/recovery.d)
install(FILES initramfs/bootstream.conf DESTINATION /etc/bootstream)
install(FILES initramfs/udev/59-bootstream.rules
  DESTINATION lib/udev/rules.d)
install(FILES initramfs/systemd/bootstream-backfill.service
    initramfs/systemd/bootstream-backfill.timer
    initramfs/systemd/bootstream-closure.path
    initramfs/systemd/bootstream-closure.service
    initramfs/systemd/bootstream-grow.service
    initramfs/systemd/bootstream-health.service
    initramfs/systemd/bootstream-shutdown.service
  DESTINATION lib/systemd/system)
install(PROGRAMS initramfs/systemd/system-shutdown
  DESTINATION lib/systemd/system-shutdown RENAME bootstream)
install(PROGRAMS initramfs/systemd/system-sleep
  DESTINATION lib/systemd/system-sleep RENAME bootstream)
install(FILES initramfs/systemd/systemd-suspend.conf
  DESTINATION lib/systemd/system/systemd-suspend.service.d
  RENAME bootstream.conf)
install(FILES bootagent/bootagent.8 initramfs/streamd.8 initramfs/streamctl.8
  DESTINATION share/man/man8)
install(FILES LICENSE DESTINATION share/doc/bootstream RENAME copyright)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME bootstream)
set(CPACK_PACKAGE_CONTACT "bootstream maintainers <bootstream@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "boot now, stream the rest")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
  "Lets this system run from a disk to which it has not been copied yet: the
initramfs starts a block device that fetches what is missing, verified, from
an image server, and the old system on the disk stays one command away.
.
Does nothing on a machine that is not being migrated.")
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "initramfs-tools, dmsetup, udev, zstd")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS
  "ca-certificates, e2fsprogs, grub-common, rsync")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "btrfs-progs, ntfs-3g, xfsprogs")
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
  WORLD_READ WORLD_EXECUTE)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
  ${package_dir}/postinst ${package_dir}/prerm ${package_dir}/postrm
  ${package_dir}/triggers ${package_dir}/conffiles)
include(CPack)
