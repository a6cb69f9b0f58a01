#ifndef IMGSERVER_IMAGE_SHOW_H_
#define IMGSERVER_IMAGE_SHOW_H_

#include <string>

#include "blockmap/base/result.h"
#include "blockmap/image/repository_client.h"
#include "imgserver/image_builder.h"
#include "imgserver/image_verifier.h"
#include "imgserver/repository.h"

// What imgtool prints, for people or as JSON.  `keys` nullptr: signatures are
// not checked, and the text says so.

namespace bootstream {

Result<std::string> ListImages(const Repository& repository,
                               const TrustedKeys* keys, bool json);
// kNotFound: no such image.
Result<std::string> ShowImage(const Repository& repository,
                              const ImageReference& image,
                              const TrustedKeys* keys, bool json);
std::string ShowBuild(const BuildOptions& options, const BuildReport& report,
                      bool json);
std::string ShowVerify(const VerifyReport& report, bool json);

}  // namespace bootstream

#endif  // IMGSERVER_IMAGE_SHOW_H_
