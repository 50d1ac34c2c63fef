include(GNUInstallDirs)
install(TARGETS mayfly mayfly-agent mayfly-proxy RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS mayflyd RUNTIME DESTINATION ${CMAKE_INSTALL_SBINDIR})
file(GLOB MAN1 ${CMAKE_SOURCE_DIR}/cmd/*.1)
file(GLOB MAN5 ${CMAKE_SOURCE_DIR}/cmd/*.5)
file(GLOB MAN8 ${CMAKE_SOURCE_DIR}/cmd/*.8)
install(FILES ${MAN1} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${MAN5} DESTINATION ${CMAKE_INSTALL_MANDIR}/man5)
install(FILES ${MAN8} DESTINATION ${CMAKE_INSTALL_MANDIR}/man8)
# bash looks for a file of the command's name; one file completes them all.
install(FILES ${CMAKE_SOURCE_DIR}/deploy/completion/mayfly
  DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/completion)
foreach(command mayfly-agent mayfly-proxy mayflyd)
  file(CREATE_LINK mayfly ${CMAKE_BINARY_DIR}/completion/${command} SYMBOLIC)
  install(FILES ${CMAKE_BINARY_DIR}/completion/${command}
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
endforeach()
